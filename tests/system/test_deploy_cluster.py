"""`edgeward deploy --as k3s`: over a real sshd to a real containerd; what the cluster is, small_cluster.py says."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import container_host
import pytest
from engine_device import OWN_NETWORK, EngineDevice, reached
from loopback_sshd import Server, needs_sshd
from small_cluster import Cluster

pytestmark = [
    pytest.mark.slow,
    needs_sshd,
    pytest.mark.skipif(container_host.missing() is not None, reason=str(container_host.missing())),
    pytest.mark.skipif(shutil.which("containerd") is None, reason="containerd is missing: apt-get install containerd"),
]
_SETTINGS = """version = 2
root = "{0}/root"
state = "{0}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{0}/containerd.sock"
"""


class Device(EngineDevice):
    """Its pods have a network of their own, in which port 8000 is free."""

    def __init__(self, server: Server, cluster: Cluster, folder: Path) -> None:
        super().__init__(server, "k3s", folder)
        self.cluster = cluster

    @property
    def image(self) -> str:
        (container,) = self.cluster.objects("daemonset")[0]["spec"]["template"]["spec"]["containers"]
        return str(container["image"])


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    folder = tmp_path_factory.mktemp("cluster")
    own = folder / "containerd"
    own.mkdir()
    (own / "config.toml").write_text(_SETTINGS.format(own))
    command = [*OWN_NETWORK, "containerd", "--config", str(own / "config.toml")]
    containerd = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cluster = Cluster(own)
    try:
        end_s = time.monotonic() + 60
        while cluster.call("version").returncode:
            if containerd.poll() is not None or time.monotonic() > end_s:
                pytest.skip("containerd does not run here")
            time.sleep(0.1)
        program = f"{sys.executable} {Path(__file__).with_name('small_cluster.py')} {own}"
        with reached(folder, "k3s", program) as server:
            yield Device(server, cluster, folder)
    finally:
        cluster.stop()
        containerd.terminate()
        containerd.wait()


def test_a_pod_answers_after_one_command(device: Device) -> None:
    told = json.loads(device.deploy(device.first, "--json").stdout)
    assert told["first_answers"]["p50_ms"] > 0
    assert told["unit"] == "k3s daemonset/edgeward-digits"
    assert told["url"] == "http://127.0.0.1:8000/v2/models/digits"
    assert told["sent_bytes"] > 20e6
    assert device.image == f"localhost/edgeward-digits:{told['digest'][7:19]}"
    assert (device.cluster.folder / "label").read_text() == "edgeward.io/digits=true"


def test_the_next_version_is_rolled_out_and_only_what_is_new_is_sent(device: Device) -> None:
    before = device.image
    told = json.loads(device.deploy(device.second, "--json").stdout)
    assert told["sent_bytes"] < 3e6
    assert device.image != before
    assert len(device.cluster.applied) == 2


def test_one_that_fails_its_self_test_is_rolled_back(device: Device) -> None:
    before = device.image
    done = device.deploy(device.wrong, code=1)
    assert "daemonset/edgeward-digits did not start: " in done.stderr
    assert "self-test" in done.stderr
    assert "what ran before runs again" in done.stderr
    assert device.image == before
    assert device.cluster.is_ready()
