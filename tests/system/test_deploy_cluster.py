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
import test_deploy_over_ssh
from container_host import GOLDEN, edgeward, make_bundle
from loopback_sshd import Server, needs_sshd, serving
from small_cluster import Cluster

from edgeward import bundle

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
_APART = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
_OWN_STORE = 'mkdir -p /var/lib/edgeward && mount -t tmpfs tmpfs /var/lib/edgeward && exec "$@"'
_OWN_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


class Device:
    """What is behind an sshd; its pods have a network of their own, in which port 8000 is free."""

    def __init__(self, server: Server, cluster: Cluster, folder: Path) -> None:
        self.server, self.cluster = server, cluster
        self.first = make_bundle(folder)
        self.second = folder / "second"
        edgeward("pack", self.first, "--version", "2.0.0", "-o", self.second)
        edgeward("sign", self.second, "--key", folder / "signer.key")
        wrong = test_deploy_over_ssh.make(folder / "wrong", bundle.load_key(folder / "signer.key"), gain=3.0)
        self.wrong = folder / "wrong-digits"
        edgeward("pack", wrong, "--name", "digits", "--version", "3.0.0", "-o", self.wrong)
        edgeward("sign", self.wrong, "--key", folder / "signer.key")

    def deploy(self, place: Path, code: int = 0) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "edgeward", "deploy", place, self.server.host, "--as", "k3s"]
        done = subprocess.run(
            [*map(str, command), "--key", str(GOLDEN / "signer.pub"), "--json"],
            env=self.server.environment(), capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if code == 0 and done.returncode == 5:
            pytest.skip(f"wheels or packages cannot be had: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == code, done.stderr
        return done

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
    command = [*_OWN_NETWORK, "containerd", "--config", str(own / "config.toml")]
    containerd = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cluster = Cluster(own)
    try:
        end_s = time.monotonic() + 60
        while cluster.call("version").returncode:
            if containerd.poll() is not None or time.monotonic() > end_s:
                pytest.skip("containerd does not run here")
            time.sleep(0.1)
        with serving(folder, folder / "cache", within=[*_APART, _OWN_STORE, "sh"]) as server:
            (server.home / "bin").mkdir()
            program = server.home / "bin/k3s"
            program.write_text(
                "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
                f'exec {sys.executable} {Path(__file__).with_name("small_cluster.py")} {own} "$@"\n'
            )
            program.chmod(0o755)
            yield Device(server, cluster, folder)
    finally:
        cluster.stop()
        containerd.terminate()
        containerd.wait()


def test_a_pod_answers_after_one_command(device: Device) -> None:
    told = json.loads(device.deploy(device.first).stdout)
    assert told["first_answers"]["p50_ms"] > 0
    assert told["unit"] == "k3s daemonset/edgeward-digits"
    assert told["url"] == "http://127.0.0.1:8000/v2/models/digits"
    assert told["sent_bytes"] > 20e6
    assert device.image == f"localhost/edgeward-digits:{told['digest'][7:19]}"
    assert (device.cluster.folder / "label").read_text() == "edgeward.io/digits=true"


def test_the_next_version_is_rolled_out_and_only_what_is_new_is_sent(device: Device) -> None:
    before = device.image
    told = json.loads(device.deploy(device.second).stdout)
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
