"""`edgeward deploy BUNDLE user@host --as podman`: over a real sshd, to a real Podman with a store of its own."""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import container_host
import pytest
import test_deploy_over_ssh
from container_host import GOLDEN, Host, edgeward, free_port, make_bundle
from loopback_sshd import Server, needs_sshd, serving

from edgeward import bundle

pytestmark = [
    pytest.mark.slow,
    needs_sshd,
    pytest.mark.skipif(container_host.missing() is not None, reason=str(container_host.missing())),
]
APART = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
_OWN_STORE = 'mkdir -p /var/lib/edgeward && mount -t tmpfs tmpfs /var/lib/edgeward && exec "$@"'
NAME = "edgeward-digits"


class Device:
    """What is behind an sshd of this test's own; /var/lib/edgeward there is not this machine's."""

    def __init__(self, server: Server, engine: Host, folder: Path) -> None:
        self.server, self.engine, self.port = server, engine, free_port()
        self.first = make_bundle(folder)
        self.second = folder / "second"
        edgeward("pack", self.first, "--version", "2.0.0", "-o", self.second)
        edgeward("sign", self.second, "--key", folder / "signer.key")
        self.wrong = test_deploy_over_ssh.make(folder / "wrong", bundle.load_key(folder / "signer.key"), gain=3.0)

    def deploy(self, place: Path, *words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        key = GOLDEN / "signer.pub"
        command = [sys.executable, "-m", "edgeward", "deploy", place, self.server.host, "--as", "podman", *words]
        command += ["--key", key] if "--port" in words else ["--key", key, "--port", self.port]
        done = subprocess.run(
            [*map(str, command)],
            env=self.server.environment(),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        if code == 0 and done.returncode == 5:
            pytest.skip(f"wheels or packages cannot be had: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == code, done.stderr
        return done

    def sh(self, line: str) -> str:
        """What a shell line prints there; its Podman's networks are those of the server's namespace."""
        user, _, port = self.server.host.rpartition(":")
        command = ["ssh", *self.server.options, "-p", port, user, line]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()

    def edgeward(self, verb: str, *words: str, code: int = 0) -> str:
        """What a verb about this device's services prints; what it complains of where it fails."""
        named = [words[0], self.server.host, *words[1:]] if verb != "status" else [self.server.host, *words]
        done = subprocess.run(
            [sys.executable, "-m", "edgeward", verb, *named], env=self.server.environment(), capture_output=True,
            text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout + done.stderr if verb == "logs" else done.stdout

    @property
    def version(self) -> str:
        """Of the model that answers on the published port."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/models/digits") as reply:
            return str(json.load(reply)["versions"][0])


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    folder = tmp_path_factory.mktemp("device")
    engine = Host(folder)
    with serving(folder, folder / "cache", within=[*APART, _OWN_STORE, "sh"]) as server:
        (server.home / "bin").mkdir()
        program = server.home / "bin/podman"
        program.write_text(f'#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nexec {engine.program} "$@"\n')
        program.chmod(0o755)
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
    done = device.deploy(device.wrong, "--port", str(free_port()), code=1)
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
    device.deploy(device.first)
    device.deploy(device.second)
    (told,) = json.loads(device.edgeward("status", "--json"))["services"]
    assert (told["name"], told["version"], told["state"]) == ("digits", "2.0.0", "active")
    assert told["unit"] == f"podman container {NAME}"
    assert "serving digits 2.0.0" in device.edgeward("logs", "digits", "--lines", "20")
    for version in ("1", "2.0.0"):
        assert "again" in device.edgeward("rollback", "digits")
        assert device.version == version
        assert json.loads(device.edgeward("status", "--json"))["services"][0]["version"] == version


def test_what_is_not_there_is_one_sentence(device: Device) -> None:
    for verb in ("logs", "rollback"):
        assert "there is no service 'door' of edgeward; there is digits" in device.edgeward(verb, "door", code=2)
