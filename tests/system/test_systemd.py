"""`edgeward deploy` on a machine that systemd runs: what it starts stays, comes back, and gives way."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import systemd_machine
from systemd_machine import Machine

from edgeward import bundle
from edgeward.kit.codec import to_json

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))
import fragile_bundle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(systemd_machine.missing() is not None, reason=str(systemd_machine.missing())),
]
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
EXAMPLE = GOLDEN.parents[1] / "examples" / "digits"
UNIT = "edgeward-fragile"
INFER = "/v2/models/fragile/infer"
GOOD = fragile_bundle.body(1, 2)


class Deployed:
    """The fragile service on the machine, deployed by the command, and the bundles that may follow."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        key = bundle.create_key(folder / "signing.key")
        self.key = machine.put(bundle.public_path_of(key.path))
        self.first = machine.put(fragile_bundle.make(folder / "first", key))
        self.second = machine.put(fragile_bundle.make(folder / "second", key, version="2.0.0"))
        self.hanging = machine.put(fragile_bundle.make(folder / "crashing", key, first=fragile_bundle.CRASH))
        self.said = self.deploy(self.first)

    def deploy(self, folder: str, *, code: int = 0) -> str:
        return self.machine.edgeward(f"deploy {folder} --key {self.key} --host {self.machine.address}", code=code)

    @property
    def pid(self) -> str:
        return self.machine.show(UNIT, "MainPID")

    def answers(self) -> bool:
        return self.machine.ask("POST", INFER, GOOD)[0] == 200

    def comes_back(self, pid: str) -> None:
        """Another process answers."""
        self.machine.wait(lambda: self.pid not in ("0", pid) and self.answers(), "another process that answers")

    @property
    def journal(self) -> str:
        return self.machine.sh(f"journalctl --unit {UNIT} --output cat --no-pager")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("machine")
    machine = Machine(folder)
    try:
        yield Deployed(machine, folder)
    finally:
        machine.close()


def test_it_answers_another_machine_and_is_hardened(service: Deployed) -> None:
    url = f"http://{service.machine.address}:8000/v2/models/fragile"
    assert service.said.splitlines()[0] == f"fragile 1.0.0 runs: {url}"
    status, answer = service.machine.ask("POST", INFER, GOOD)
    assert (status, answer["outputs"][0]["data"]) == (200, [2.0, 4.0])
    rating = service.machine.sh(f"systemd-analyze security --no-pager {UNIT}", code=0).splitlines()[-1]
    print(rating)
    assert float(rating.partition(": ")[2].split()[0]) < 3.0
    assert 61184 <= int(service.machine.sh(f"stat -c %u /proc/{service.pid}")) <= 65519, "no user made for it alone"
    assert service.machine.sh(f"cat /proc/{service.pid}/environ | tr '\\0' '\\n' | grep TELEMETRY")


def test_a_repeat_changes_nothing(service: Deployed) -> None:
    pid = service.pid
    assert service.deploy(service.first).startswith("fragile 1.0.0 runs already, unchanged: ")
    assert service.pid == pid


def test_it_comes_back_after_kill_9_in_the_middle_of_a_request(service: Deployed) -> None:
    pid = service.pid
    seconds_of_work = fragile_bundle.body(*[fragile_bundle.SLOW, 1.0] * 1000)
    with ThreadPoolExecutor(1) as client:
        asked = client.submit(service.machine.ask, "POST", INFER, seconds_of_work)
        rows = lambda: service.machine.ask("GET", "/v2/models/fragile/stats")[1]["model_stats"]  # noqa: E731
        service.machine.wait(lambda: rows()[0]["in_flight"] == 1, "the request under way")
        service.machine.sh(f"kill -9 {pid}", code=0)
        assert asked.result()[0] == 0
    service.comes_back(pid)


def test_it_comes_back_when_its_runtime_crashes_and_the_journal_says_where(service: Deployed) -> None:
    pid = service.pid
    assert service.machine.ask("POST", INFER, fragile_bundle.body(fragile_bundle.CRASH, 2))[0] == 0
    service.comes_back(pid)
    assert "Fatal Python error: Segmentation fault" in service.journal
    assert "edgeward_fragile.py" in service.journal


def test_a_model_that_hangs_is_killed_and_comes_back(service: Deployed) -> None:
    service.machine.drop_in(UNIT, "soon", "WatchdogSec=2")
    service.machine.sh(f"systemctl restart {UNIT}", code=0)
    pid = service.pid
    assert service.machine.ask("POST", INFER, fragile_bundle.body(fragile_bundle.HANG, 2))[0] == 0
    service.comes_back(pid)
    assert "Watchdog timeout (limit 2s)!" in service.machine.sh(f"journalctl --unit {UNIT} --no-pager")
    service.machine.drop_in(UNIT, "soon")


def test_a_reload_opens_the_new_bundle_in_the_same_process(service: Deployed) -> None:
    pid = service.pid
    switch = (
        "from pathlib import Path; from edgeward.bundle import trusted_keys; from edgeward.bundle.store import Store; "
        f"trust = trusted_keys([Path('{service.key}')]); store = Store(); "
        f"store.switch('fragile', store.put(Path('{service.second}'), trust))"
    )
    service.machine.sh(f'{systemd_machine.PYTHON} -c "{switch}"', code=0)
    service.machine.sh(f"systemctl reload {UNIT}", code=0)
    is_new = lambda: service.machine.ask("GET", "/v2/models/fragile")[1]["versions"] == ["2.0.0"]  # noqa: E731
    service.machine.wait(is_new, "the second version")
    assert service.pid == pid
    service.machine.wait(lambda: service.machine.show(UNIT, "ActiveState") == "active", "the end of the reload")
    assert service.answers()


def test_a_bundle_that_does_not_start_gives_way_to_what_ran_before(service: Deployed) -> None:
    service.deploy(service.second)
    said = service.deploy(service.hanging, code=1)
    assert said.splitlines()[0].startswith("edgeward: edgeward-fragile.service did not start: ")
    assert said.splitlines()[0].endswith("; what ran before runs again")
    assert service.answers()
    assert service.machine.ask("GET", "/v2/models/fragile")[1]["versions"] == ["2.0.0"]
    assert len(service.machine.sh("ls /var/lib/edgeward/bundles").split()) == 2, "what runs, and what ran before it"


def test_an_environment_in_a_home_folder_is_told(service: Deployed) -> None:
    service.machine.sh("test -e /root/env || cp -r /opt/edgeward /root/env", code=0)
    said = service.machine.edgeward(
        f"deploy {service.first} --key {service.key}", code=4, python="/root/env/bin/python"
    )
    assert "a service has a user of its own, which cannot read this: units do not see /root" in said


def test_memory_over_the_limit_ends_it(service: Deployed) -> None:
    service.machine.drop_in(UNIT, "small", "MemoryMax=12M", "Restart=no")
    service.machine.sh(f"systemctl restart {UNIT}", code=1)
    result, status = service.machine.show(UNIT, "Result"), service.machine.show(UNIT, "ExecMainStatus")
    service.machine.drop_in(UNIT, "small")
    service.machine.sh(f"systemctl restart {UNIT}", code=0)
    assert (result in ("oom-kill", "signal"), status) == (
        True,
        "9",
    )  # under cgroup v1 systemd is not told of the reason


def test_onnx_runtime_works_behind_the_same_walls(service: Deployed, tmp_path: Path) -> None:
    key = service.machine.put(GOLDEN / "signer.pub")
    digits = tmp_path / "digits"
    verb = [sys.executable, "-m", "edgeward"]
    steps = ["--preprocess", EXAMPLE / "preprocess.toml", "--labels", EXAMPLE / "labels.txt"]
    subprocess.run([*verb, "pack", EXAMPLE / "digits.onnx", *steps, "-o", digits], check=True, timeout=120)
    shutil.copy(GOLDEN / "signer.key", tmp_path / "signer.key")
    (tmp_path / "signer.key").chmod(0o600)
    subprocess.run([*verb, "sign", digits, "--key", tmp_path / "signer.key"], check=True, timeout=120)
    where = f"--key {key} --host {service.machine.address} --port 8001"
    told = json.loads(service.machine.edgeward(f"deploy {service.machine.put(digits)} {where} --json"))
    assert (told["changed"], told["unit"]) == (True, "edgeward-digits.service")
    assert "MemoryDenyWriteExecute=yes" in service.machine.sh("systemctl cat edgeward-digits")
    about = service.machine.ask("GET", "/v2/models/digits", port=8001)[1]
    (port,) = about["inputs"]
    shape = [1, *port["shape"][1:]]
    sample = {**port, "shape": shape, "data": [0] * math.prod(shape)}
    status, answer = service.machine.ask("POST", "/v2/models/digits/infer", to_json({"inputs": [sample]}), port=8001)
    assert (status, answer["outputs"][0]["shape"][0]) == (200, 1)

    golden = service.machine.put(GOLDEN / "bundle-v1-good")
    said = service.machine.edgeward(f"deploy {golden} {where}", code=1)
    why = f"{service.machine.address}:8001: the address is already in use; nothing of it was left behind"
    assert said.splitlines()[0] == f"edgeward: edgeward-golden.service did not start: {why}"
    assert service.machine.sh("ls /etc/edgeward /var/lib/edgeward/services").split().count("golden") == 0
    service.machine.edgeward("deploy --remove digits")


def test_a_pipeline_writes_answers_and_survives_kill_9(service: Deployed) -> None:
    """Into its own folder, from recorded samples, with no network and settings that nobody else reads."""
    machine, folder = service.machine, service.machine.root / "srv" / "pipeline"
    folder.mkdir()
    np.savez(folder / "samples.npz", x=np.float32([[1, 2], [3, 4]]))
    (folder / "edgeward.toml").write_text(
        f'[[pipeline]]\nname = "door"\nbundle = "{service.first}"\nkeys = ["{service.key}"]\n'
        'source = { use = "replay", path = "samples.npz", rate_hz = 20, repeat = true }\n'
        'sinks = [{ use = "jsonl", path = "logs/answers.jsonl" }]\n'
    )
    line = f"cd /srv/pipeline && {systemd_machine.PYTHON} -m edgeward deploy --pipeline door"
    assert machine.sh(line, code=0).startswith("door runs\n")
    assert machine.sh(line, code=0).startswith("door runs already, unchanged\n")
    assert machine.sh("stat -c %a /etc/edgeward/door/edgeward.toml") == "600"
    count = lambda: int(machine.sh("wc -l < /var/lib/edgeward-door/logs/answers.jsonl || echo 0").split()[-1])  # noqa: E731
    machine.wait(lambda: count() > 0, "an answer")
    pid = machine.show("edgeward-door", "MainPID")
    machine.sh(f"kill -9 {pid}", code=0)
    machine.wait(lambda: machine.show("edgeward-door", "MainPID") not in ("0", pid), "another process")
    before = count()
    machine.wait(lambda: count() > before, "its answers")
    lines = machine.sh("cat /var/lib/edgeward-door/logs/answers.jsonl").splitlines()
    assert json.loads(lines[0])["outputs"]["x_out"] in ([2.0, 4.0], [[2.0, 4.0]])
    machine.edgeward("deploy --remove door")
    assert "door" not in machine.sh("ls /etc/edgeward /etc/systemd/system /var/lib/edgeward/services")


def test_a_user_who_is_not_root_is_told(service: Deployed) -> None:
    service.machine.sh(f"cp -r {service.first} {service.key} /srv; chmod -R a+rX /srv", code=0)
    line = f"setpriv --reuid 65534 --clear-groups {systemd_machine.PYTHON} -m edgeward deploy /srv/first"
    said = service.machine.sh(f"{line} --key /srv/signing.pub", code=2)
    assert said.splitlines()[0] == "edgeward: a service of this machine is installed by root"


def test_it_starts_on_boot(service: Deployed) -> None:
    service.machine.halt()
    service.machine.boot()
    service.machine.wait(service.answers, "an answer after the boot")


def test_removed_it_is_gone_and_what_it_stored_stays(service: Deployed) -> None:
    assert json.loads(service.machine.edgeward("deploy --remove fragile --json"))["unit"] == f"{UNIT}.service"
    assert service.machine.ask("POST", INFER, GOOD)[0] == 0
    places = "/etc/systemd /etc/edgeward /var/lib/edgeward"
    assert service.machine.sh(f"find {places} -name '*fragile*' -o -name '*.pub' -o -name 'sha256-*'") == ""
    assert UNIT in service.machine.sh("ls /var/lib/private").split()
    said = service.machine.edgeward("deploy --remove fragile", code=2)
    assert said.startswith("edgeward: there is no service 'fragile' of edgeward here")
