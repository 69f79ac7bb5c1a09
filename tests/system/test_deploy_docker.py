"""`edgeward deploy --as docker`: over a real sshd to a real Docker with a store and a network of its own."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import container_host
import pytest
from engine_device import NAME, OWN_NETWORK, EngineDevice, check_verbs, reached
from loopback_sshd import Server, needs_sshd

pytestmark = [
    pytest.mark.slow,
    needs_sshd,
    pytest.mark.skipif(container_host.missing() is not None, reason=str(container_host.missing())),
    pytest.mark.skipif(shutil.which("dockerd") is None, reason="dockerd is missing: apt-get install docker.io"),
]


class Device(EngineDevice):
    """`client` is docker as a test may start it."""

    def __init__(self, server: Server, client: list[str], folder: Path) -> None:
        super().__init__(server, "docker", folder)
        self.client = client

    def docker(self, *words: str) -> str:
        done = subprocess.run([*self.client, *words], capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    @property
    def version(self) -> str:
        """Of the model that answers in the container."""
        code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/v2/models/digits').read().decode())"
        return str(json.loads(self.docker("exec", NAME, "/opt/edgeward/bin/python", "-c", code))["versions"][0])


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    folder = tmp_path_factory.mktemp("docker")
    own = folder / "d"
    own.mkdir()
    address = f"unix://{own}/s"
    command = [*OWN_NETWORK, "dockerd", "--data-root", own / "data", "--exec-root", own / "exec"]
    command += ["--pidfile", own / "pid", "--host", address, "--storage-driver", "vfs"]
    log = (folder / "dockerd.log").open("wb")
    daemon = subprocess.Popen([*map(str, command)], stdout=log, stderr=log)
    docker = ["docker", "--host", address]
    try:
        end_s = time.monotonic() + 60
        while subprocess.run([*docker, "version"], capture_output=True, check=False).returncode:
            if daemon.poll() is not None or time.monotonic() > end_s:
                pytest.skip(f"dockerd does not run here: {(folder / 'dockerd.log').read_text()[-300:]}")
            time.sleep(0.2)
        with reached(folder, "docker", f"docker --host {address}") as server:
            yield Device(server, docker, folder)
    finally:
        subprocess.run([*docker, "rm", "--force", NAME, f"{NAME}-before"], capture_output=True, check=False)
        daemon.terminate()
        daemon.wait()
        log.close()


def test_a_container_answers_after_one_command(device: Device) -> None:
    told = json.loads(device.deploy(device.first, "--json").stdout)
    assert told["first_answers"]["p50_ms"] > 0
    assert told["unit"] == f"docker container {NAME}"
    assert device.version == "1"
    said = json.loads(device.docker("inspect", NAME))[0]["HostConfig"]
    assert said["ReadonlyRootfs"]
    assert said["CapDrop"] == ["ALL"]
    assert said["RestartPolicy"]["Name"] == "unless-stopped"
    assert said["PortBindings"] == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]}


def test_of_the_next_version_only_what_is_new_is_sent(device: Device) -> None:
    assert json.loads(device.deploy(device.second, "--json").stdout)["sent_bytes"] < 3e6
    assert device.version == "2.0.0"


def test_one_that_does_not_start_is_stepped_back_from(device: Device) -> None:
    done = device.deploy(device.wrong, code=1)
    assert "self-test" in done.stderr
    assert "what ran before runs again" in done.stderr
    assert device.docker("ps", "--all", "--format", "{{.Names}}") == NAME
    alive = [*device.client, "exec", NAME, "/opt/edgeward/bin/python", "-m", "edgeward.link.alive", "8000"]
    while subprocess.run(alive, capture_output=True, check=False).returncode:
        time.sleep(0.2)
    assert device.version == "2.0.0"


def test_what_runs_is_told_its_words_are_shown_and_it_goes_back_and_forth(device: Device) -> None:
    check_verbs(device, "docker")
