"""`edgeward deploy BUNDLE user@host`: to a Debian that systemd runs and that has nothing of ours, over a real sshd."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import systemd_machine
from loopback_sshd import SSH, new_key
from systemd_machine import Machine

from edgeward import bundle
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.kit.files import new_folder
from edgeward.records.model import Model, TensorSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(systemd_machine.missing() is not None, reason=str(systemd_machine.missing())),
    pytest.mark.skipif(SSH is None, reason="ssh is missing: apt-get install openssh-client"),
]
UNIT = "edgeward-doubler"
ROOT = Path(__file__).resolve().parents[2]


def make(folder: Path, key: bundle.SigningKey, *, version: str = "1.0.0", gain: float = 2.0) -> Path:
    """A bundle whose self-test says that it doubles; it multiplies by `gain`."""
    spec = TensorSpec(name="x", dtype="float32", shape=(1, 2))
    told = TensorSpec(name="x_out", dtype="float32", shape=(1, 2))
    sample = np.float32([[5, 1]])
    parts = bundle.Parts(
        name="doubler", version=version, created_at=datetime(2026, 1, 1, tzinfo=UTC),
        model=Model(name="doubler", format="echo", files=(), inputs=(spec,), outputs=(told,), parameter_count=0),
        model_bytes=codec.to_json(EchoModel(inputs=(spec,), gain=gain)),
        runtime="echo", runtime_versions=">=1", kind="tensor",
        inputs=(TensorSpec(name="x", dtype="float32", shape=(2,)),),
        self_test_inputs={"x": sample}, self_test_expected={"x_out": 2 * sample},
    )  # fmt: skip
    with new_folder(folder) as work:
        bundle.assemble(work, parts)
    bundle.sign(folder, key)
    return folder


class Edge:
    """The device, a user's ssh that knows it, and the bundles that may go there."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine, self.folder = machine, folder
        self.key = bundle.create_key(folder / "signing.key")
        self.first = make(folder / "first", self.key)
        self.second = make(folder / "second", self.key, version="2.0.0")
        self.wrong = make(folder / "wrong", self.key, version="3.0.0", gain=3.0)
        machine.sh("rm -rf /opt/edgeward", code=0)
        key = new_key(folder / "id")
        for user in ("root", "guest"):
            machine.sh(f"id {user} || useradd -m {user}", code=0)
            home = machine.root / ("root" if user == "root" else f"home/{user}")
            (home / ".ssh").mkdir(mode=0o700, exist_ok=True)
            (home / ".ssh/authorized_keys").write_bytes((folder / "id.pub").read_bytes())
            machine.sh(f"chown -R {user} ~{user}/.ssh; chmod 700 ~{user}/.ssh", code=0)
        machine.sh("systemctl start ssh", code=0)
        self.options = f"-F none -i {key} -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={folder}/known"
        program = folder / "bin" / "ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {SSH} {self.options} "$@"\n')
        program.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "HOME": str(Path.home())}

    def start(self, place: Path, *words: str, user: str = "root") -> "subprocess.Popen[str]":
        key = str(bundle.public_path_of(self.key.path))
        return self.edgeward("deploy", str(place), f"{user}@{self.machine.address}", *words, "--key", key)

    def edgeward(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "edgeward", *words],
            env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def deploy(self, place: Path, *words: str, user: str = "root", code: int = 0) -> tuple[str, str]:
        process = self.start(place, *words, user=user)
        said, complaint = process.communicate(timeout=280)
        assert process.returncode == code, complaint
        return said, complaint

    @property
    def version(self) -> str:
        """Of the model that answers there."""
        there = self.machine.sh(
            'python3 -c \'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8000/v2/models/doubler")'
            ".read().decode())'"
        )
        return str(json.loads(there)["versions"][0])


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("edge")
    machine = Machine(folder)
    try:
        yield Edge(machine, folder)
    finally:
        machine.close()


def test_a_bare_device_answers_after_one_command(edge: Edge) -> None:
    said, _ = edge.deploy(edge.first, "--json")
    told = json.loads(said)
    assert told["first_answers"]["answers"] == ["x_out 10, 2"]
    assert told["first_answers"]["p50_ms"] > 0
    assert told["sent_bytes"] > 20e6, "edgeward itself"
    assert edge.version == "1.0.0"
    assert edge.machine.sh("ls /var/lib/edgeward/incoming") == "", "what was sent is not kept twice"
    assert edge.machine.sh("/opt/edgeward/current/bin/edgeward-agent unit", code=0).startswith("# Written by")


def test_a_repeat_sends_nothing_and_changes_nothing(edge: Edge) -> None:
    pid = edge.machine.show(UNIT, "MainPID")
    told = json.loads(edge.deploy(edge.first, "--json")[0])
    assert not told["changed"]
    assert told["sent_bytes"] < 10_000, "its keys and list of files"
    assert edge.machine.show(UNIT, "MainPID") == pid


def test_its_services_and_what_they_said_are_told_from_here(edge: Edge) -> None:
    host = f"root@{edge.machine.address}"
    status = edge.edgeward("status", host, "--json")
    (told,) = json.loads(status.communicate(timeout=60)[0])["services"]
    assert (told["name"], told["version"], told["state"]) == ("doubler", "1.0.0", "active")
    assert "serving doubler 1.0.0" in edge.edgeward("logs", "doubler", host).communicate(timeout=60)[0]
    nothing = edge.edgeward("logs", "nothing", host)
    assert "there is no service 'nothing' of edgeward; there is doubler" in nothing.communicate(timeout=60)[1]
    assert nothing.returncode == 2


def test_a_model_that_fails_its_self_test_there_is_stepped_back_from(edge: Edge) -> None:
    _, complaint = edge.deploy(edge.wrong, code=1)
    assert "did not start" in complaint
    assert "what ran before runs again" in complaint
    assert edge.version == "1.0.0"


def test_a_link_that_is_cut_is_gone_on_from(edge: Edge) -> None:
    edge.machine.sh("rm -rf /opt/edgeward/releases /opt/edgeward/current")
    process = edge.start(edge.second)
    partial = edge.machine.root / "var/lib/edgeward/incoming"
    edge.machine.wait(lambda: any(path.stat().st_size > 1e6 for path in partial.glob("*.partial")), "a file half sent")
    (ssh,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(ssh), signal.SIGKILL)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 5, complaint
    assert edge.version == "1.0.0"
    said, _ = edge.deploy(edge.second, "--json")
    assert json.loads(said)["changed"]
    assert edge.version == "2.0.0"
    assert edge.machine.sh("ls /opt/edgeward/releases | wc -l") == "1", "only what a unit names is kept"


def test_a_rollback_lets_the_bundle_before_run_again(edge: Edge) -> None:
    host = f"root@{edge.machine.address}"
    for version in ("1.0.0", "2.0.0"):
        rollback = edge.edgeward("rollback", "doubler", host)
        said, complaint = rollback.communicate(timeout=120)
        assert rollback.returncode == 0, complaint
        assert said.startswith("doubler runs sha256:")
        assert edge.version == version


def test_the_three_commands_of_the_docs_end_in_answers_on_the_device(edge: Edge) -> None:
    """As they are written, but for the name of the device, where root deploys; on a machine of this test's own."""
    page = (ROOT / "docs/deploy.md").read_text()
    commands = page.partition("```sh\n")[2].partition("```")[0].strip().splitlines()
    assert len(commands) == 3
    edge.machine.sh("systemctl stop edgeward-doubler")
    try:
        for line in commands:
            words = line.replace("pi@raspberrypi", f"root@{edge.machine.address}").split()[1:]
            placed = [str(edge.folder / word) if word.startswith("out") else word for word in words]
            command = [sys.executable, "-m", "edgeward", *placed]
            done = subprocess.run(
                command, cwd=ROOT, env={**edge.environment, "XDG_CONFIG_HOME": str(edge.folder / "config")},
                capture_output=True, text=True, timeout=280, check=False,
            )  # fmt: skip
            assert done.returncode == 0 or line.startswith("edgeward status"), done.stderr
            print(done.stdout)
        assert "digits 1.0.0: active since" in done.stdout
    finally:
        edge.machine.sh("/opt/edgeward/current/bin/edgeward deploy --remove digits")
        edge.machine.sh("systemctl start edgeward-doubler")


def test_of_two_at_once_both_end_and_one_answers(edge: Edge) -> None:
    both = [edge.start(edge.first), edge.start(edge.second)]
    codes = sorted((process.communicate(timeout=280), process.returncode)[1] for process in both)
    assert codes in ([0, 0], [0, 5]), codes
    assert edge.version in ("1.0.0", "2.0.0")
    edge.deploy(edge.second)
    assert edge.version == "2.0.0"


def test_a_user_who_may_not_become_root_is_told(edge: Edge) -> None:
    _, complaint = edge.deploy(edge.first, user="guest", code=5)
    assert "may not become root there" in complaint


def test_by_sudo_it_is_as_by_root(edge: Edge) -> None:
    (edge.machine.root / "etc/sudoers.d/guest").write_text("guest ALL=(ALL) NOPASSWD: ALL\n")
    assert not json.loads(edge.deploy(edge.second, "--json", user="guest")[0])["changed"]


def test_a_changed_host_key_is_told_and_nothing_is_sent(edge: Edge) -> None:
    known = edge.folder / "known"
    before = known.read_bytes()
    try:
        known.write_text(f"{edge.machine.address} {new_key(edge.folder / 'other').with_suffix('.pub').read_text()}")
        _, complaint = edge.deploy(edge.first, code=5)
        assert "shows another host key" in complaint
    finally:
        known.write_bytes(before)


def test_a_full_disk_is_told_and_what_runs_runs_on(edge: Edge) -> None:
    edge.machine.sh("mkdir -p /var/lib/edgeward/incoming; mount -t tmpfs -o size=64k tmpfs /var/lib/edgeward/incoming")
    try:
        big = make(edge.folder / "big", edge.key, version="4." + "0" * 20)
        edge.machine.sh("head -c 60000 /dev/zero > /var/lib/edgeward/incoming/filler")
        _, complaint = edge.deploy(big, code=1)
        assert "no space left on the device" in complaint
        assert edge.version == "2.0.0"
    finally:
        edge.machine.sh("umount /var/lib/edgeward/incoming")


def test_a_processor_that_no_runtime_is_built_for_is_told_and_nothing_is_sent(edge: Edge) -> None:
    """A 32-bit x86, as its kernel tells programs."""
    before = edge.machine.sh("ls /var/lib/edgeward/incoming")
    settings = edge.machine.root / "etc/ssh/sshd_config.d/odd.conf"
    settings.write_text('Match User root\n  ForceCommand setarch i686 sh -c "$SSH_ORIGINAL_COMMAND"\n')
    edge.machine.sh("systemctl restart ssh", code=0)
    try:
        _, complaint = edge.deploy(edge.first, code=4)
    finally:
        settings.unlink()
        edge.machine.sh("systemctl restart ssh", code=0)
    assert "no wheel of " in complaint
    assert " on i686 with glibc" in complaint
    assert edge.machine.sh("ls /var/lib/edgeward/incoming") == before


def test_a_device_with_python_3_9_is_sent_one_that_serves(tmp_path: Path) -> None:
    """Debian 11: its Python is 3.9, its C library 2.31, its systemd 247."""
    machine = Machine(tmp_path, "bullseye")
    try:
        old = Edge(machine, tmp_path)
        assert machine.sh("python3 --version") == "Python 3.9.2"
        told = json.loads(old.deploy(old.first, "--json")[0])
        assert told["first_answers"]["answers"] == ["x_out 10, 2"]
        assert old.version == "1.0.0"
        assert told["sent_bytes"] > 35e6, "edgeward, and a Python"
        again = json.loads(old.deploy(old.second, "--json")[0])
        assert again["sent_bytes"] < 100_000
        assert old.version == "2.0.0"
        said = old.edgeward("rollback", "doubler", f"root@{machine.address}").communicate(timeout=120)[0]
        assert "again" in said
        assert old.version == "1.0.0"
        assert machine.sh("/opt/edgeward/current/bin/edgeward-agent unit", code=0).startswith("# Written by")
    finally:
        machine.close()
