"""`edgeward deploy BUNDLE user@host --as podman`: over a real sshd, to a real Podman with a store of its own."""

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import container_host
import pytest
from container_host import Host, free_port
from engine_device import NAME, EngineDevice, check_verbs, reached
from loopback_sshd import Server, needs_sshd

pytestmark = [
    pytest.mark.slow,
    needs_sshd,
    pytest.mark.skipif(container_host.missing() is not None, reason=str(container_host.missing())),
]


class Device(EngineDevice):
    """`port` is where its container answers."""

    def __init__(self, server: Server, engine: Host, folder: Path) -> None:
        super().__init__(server, "podman", folder)
        self.engine, self.port = engine, free_port()

    def deploy(self, place: Path, *words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        port = () if "--port" in words else ("--port", str(self.port))
        return super().deploy(place, *port, *words, code=code)

    def sh(self, line: str) -> str:
        """What a shell line prints there; its Podman's networks are those of the server's namespace."""
        user, _, port = self.server.host.rpartition(":")
        command = ["ssh", *self.server.options, "-p", port, user, line]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()

    @property
    def version(self) -> str:
        """Of the model that answers on the published port."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/models/digits") as reply:
            return str(json.load(reply)["versions"][0])


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    folder = tmp_path_factory.mktemp("device")
    engine = Host(folder)
    with reached(folder, "podman", str(engine.program)) as server:
        try:
            yield Device(server, engine, folder)
        finally:
            engine.close()


def test_a_container_answers_after_one_command(device: Device) -> None:
    told = json.loads(device.deploy(device.first, "--json").stdout)
    assert len(told["first_answers"]["answers"]) > 0
    assert told["first_answers"]["p50_ms"] > 0
    assert told["sent_bytes"] > 20e6
    assert device.version == "1"
    said = json.loads(device.engine.podman("inspect", NAME))[0]
    assert said["HostConfig"]["ReadonlyRootfs"]
    assert not said["EffectiveCaps"]


def test_of_the_next_version_only_what_is_new_is_sent(device: Device) -> None:
    told = json.loads(device.deploy(device.second, "--json").stdout)
    assert told["sent_bytes"] < 3e6
    assert device.version == "2.0.0"


def test_a_container_that_does_not_start_is_told_and_leaves_nothing(device: Device) -> None:
    done = device.deploy(device.doubler, "--port", str(free_port()), code=1)
    assert "the container edgeward-doubler did not start: " in done.stderr
    assert "self-test" in done.stderr
    assert "nothing of it was left behind" in done.stderr
    assert device.sh("podman ps --all --format '{{.Names}}'") == NAME


def test_one_that_does_not_start_is_stepped_back_from(device: Device) -> None:
    """The new one is given a port that somebody else has."""
    before = device.sh(f"podman inspect --format '{{{{.Id}}}}' {NAME}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = device.deploy(device.first, "--port", str(taken.getsockname()[1]), code=1)
    assert "what ran before runs again" in done.stderr
    device.sh(f"until podman exec {NAME} /opt/edgeward/bin/python -m edgeward.link.alive 8000; do sleep 0.2; done")
    assert device.sh(f"podman inspect --format '{{{{.Id}}}}' {NAME}") == before
    assert device.version == "2.0.0"


def test_a_replacement_that_was_cut_short_is_mended_by_the_next_one(device: Device) -> None:
    device.sh(f"podman stop {NAME} && podman rename {NAME} {NAME}-before")
    device.deploy(device.first)
    assert device.version == "1"
    assert device.sh("podman ps --all --format '{{.Names}}'") == NAME


def test_what_runs_is_told_its_words_are_shown_and_it_goes_back_and_forth(device: Device) -> None:
    check_verbs(device, "podman")
