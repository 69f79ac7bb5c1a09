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


_UPDATE = """
import sys
from pathlib import Path
from edgeward.agent.run import Agent
from edgeward.agent.service import Health
from edgeward.bundle.store import Store
from edgeward.kit import codec
from edgeward.kit.clock import SystemClock
from edgeward.kit.memory import peak_bytes
from edgeward.records.agent import AgentSettings
class Up:
    def restart(self): pass
    def stop(self): pass
    def health(self): return Health(True, False, "ready")
agent = Agent(codec.from_toml(Path(sys.argv[1]), AgentSettings), Store(Path(sys.argv[2])), Up(), SystemClock())
before = peak_bytes()
said = agent.once()
print(said, before / 1e6, peak_bytes() / 1e6, sep="|")
"""


@needs_registry
@pytest.mark.parametrize("megabytes", [1, 500])
def test_the_memory_of_an_update(tmp_path: Path, megabytes: int) -> None:
    """From a registry, through verification, self-test and switch, to the commit."""
    from edgeward.bundle.assembly import Said

    key, folder = bundle.create_key(tmp_path / "a.key"), tmp_path / "bundle"
    folder.mkdir()
    made = bundle.peek(GOLDEN / "bundle-v1-good").manifest.created_at
    bundle.reassemble(GOLDEN / "bundle-v1-good", folder, made, Said(report=os.urandom(megabytes << 20)))
    bundle.sign(folder, key)
    with registry(tmp_path / "registry") as host:
        push(folder, Reference(host, "golden", "1"))
        config = tmp_path / "agent.toml"
        public = bundle.public_path_of(key.path)
        config.write_text(f'service = "golden"\nsource = "{host}/golden:1"\nkeys = ["{public}"]\nprobation-s = 1\n')
        command = [sys.executable, "-c", _UPDATE, str(config), str(tmp_path / "store")]
        told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    said, before, most = told.rsplit("|", 2)
    print(f"\nan update of {megabytes} MB: {float(before):.1f} MB before, {float(most):.1f} MB at most: {said}")
