"""What the agent costs a device: `python -m pytest bench/test_agent.py -s` prints it; no figure is asserted."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeward import bundle
from edgeward.bundle.registry import Reference, push
from edgeward.bundle.store import Store

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests/faults"))
from registries import needs_registry, registry

GOLDEN = Path(__file__).resolve().parents[1] / "tests/golden"
KEY = GOLDEN / "signer.pub"
TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def running(folder: Path, source: str, every_s: float) -> Iterator[int]:
    """The resident agent of a device that is up to date; its process id."""
    store = Store(folder / "store")
    store.switch("golden", store.put(GOLDEN / "bundle-v1-good", bundle.trusted_keys([KEY])))
    config = folder / "agent.toml"
    config.write_text(f'service = "golden"\nsource = "{source}"\nkeys = ["{KEY}"]\nevery-s = {every_s}\n')
    words = ["-m", "edgeward.agent.main", "--config", str(config), "--store", str(store.root), "run"]
    process = subprocess.Popen([sys.executable, *words])
    try:
        time.sleep(3)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def cpu_s(pid: int) -> float:
    """Of this process and the children it waited for."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / TICKS


def rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1e3


@needs_registry
@pytest.mark.parametrize(("what", "every_s"), [("idle", 3600.0), ("a look each second", 1.0)])
def test_a_resident_agent(tmp_path: Path, what: str, every_s: float) -> None:
    seconds = 60
    with registry(tmp_path / "registry") as host:
        push(GOLDEN / "bundle-v1-good", Reference(host, "golden", "1"))
        with running(tmp_path, f"{host}/golden:1", every_s) as pid:
            before, begin = cpu_s(pid), time.monotonic()
            time.sleep(seconds)
            spent, took = cpu_s(pid) - before, time.monotonic() - begin
            print(f"\n{what}: RSS {rss_mb(pid):.1f} MB, {100 * spent / took:.2f} % of one CPU over {took:.0f} s")
            if every_s < seconds:
                print(f"a look takes {1e3 * spent / (took / every_s):.1f} ms of CPU")


def test_one_look_in_a_process_of_its_own(tmp_path: Path) -> None:
    with running(tmp_path, str(GOLDEN / "bundle-v1-good"), 3600.0):
        pass
    words = ["--config", str(tmp_path / "agent.toml"), "--store", str(tmp_path / "store"), "check"]
    taken = []
    for _ in range(10):
        before = os.times()
        subprocess.run([sys.executable, "-m", "edgeward.agent.main", *words], check=True, capture_output=True)
        after = os.times()
        taken.append(
            1e3 * (after.children_user + after.children_system - before.children_user - before.children_system)
        )
    print(f"\nedgeward-agent check, its start included: {sorted(taken)[5]:.0f} ms of CPU (n {len(taken)}, "
          f"{min(taken):.0f} to {max(taken):.0f})")  # fmt: skip
