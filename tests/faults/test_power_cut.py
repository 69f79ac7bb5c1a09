"""The agent is killed, and its disk fails, at every single call that writes, renames, links, removes or syncs while it
installs, switches and collects: afterwards one valid bundle is the current one, and a repeat succeeds."""

import collections
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "rooms/agent"))
from agent_parts import make

from edgeward import bundle
from edgeward.bundle.checking import check
from edgeward.bundle.store import Store

PROGRAM = Path(__file__).with_name("update_once.py")
CALLS = (
    "write", "pwrite64", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink",
    "unlinkat", "rmdir", "mkdir", "mkdirat", "fsync", "fdatasync", "ftruncate", "fchmod", "chmod", "sendfile",
    "copy_file_range",
)  # fmt: skip
KILLED = "signal=KILL"
FAULTS = (KILLED, "error=EIO", "error=ENOSPC")
STRACE, QUICK = ("strace", "-f"), "--seccomp-bpf"
"""With QUICK strace stops at the calls named alone, and sends no signals."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing: apt-get install strace"),
]


class World:
    """A device that runs version 1.1.0, has 1.0.0 to go back to, and is offered 1.2.0."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        key = bundle.create_key(folder / "signing.key")
        self.trust = bundle.trusted_keys([bundle.public_path_of(key.path)])
        self.config, self.source = folder / "agent.toml", folder / "source"
        public = bundle.public_path_of(key.path)
        self.config.write_text(
            f'service = "doubler"\nsource = "{self.source}"\nkeys = ["{public}"]\nprobation-s = 1e-6\n'
        )
        self.digests = []
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            make(self.source, key, version)
            self.digests.append(bundle.peek(self.source).digest)
            if version != "1.2.0":
                assert self.run(folder / "before").returncode == 0

    def copy(self, number: int) -> Path:
        place = self.folder / f"store-{number}"
        shutil.copytree(self.folder / "before", place, symlinks=True)
        return place

    def run(self, store: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [*words, sys.executable, "-B", str(PROGRAM), str(self.config), str(store)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def points(self) -> Iterator[tuple[str, int]]:
        """Every call that the install makes, by name and by its number among those of that name."""
        log = self.folder / "calls"
        done = self.run(self.copy(0), *STRACE, QUICK, "-o", str(log), "-e", f"trace={','.join(CALLS)}")
        assert done.returncode == 0, done.stderr
        found = collections.Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))
        for name, count in found.items():
            for number in range(1, count + 1):
                yield name, number

    def try_out(self, number: int, name: str, when: int, fault: str) -> str | None:
        """What was wrong after the fault; None where all was as it must be."""
        place = self.copy(number)
        inject = f"inject={name}:{fault}:when={when}"
        log = self.folder / f"log-{number}"
        quick = () if fault == KILLED else (QUICK,)
        done = self.run(place, *STRACE, *quick, "-o", str(log), "-e", f"trace={name}", "-e", inject)
        has_struck = re.search("INJECTED|killed by SIGKILL", log.read_text()) is not None
        wrong = self._is_wrong(place, after_all=False) if has_struck else "nothing happened"
        if wrong is None and "Traceback" in done.stderr and fault == KILLED:
            wrong = done.stderr
        if wrong is None:
            again = self.run(place)
            wrong = (
                f"a repeat failed: {again.stderr[-500:]}" if again.returncode else self._is_wrong(place, after_all=True)
            )
        shutil.rmtree(place)
        log.unlink()
        return f"{name} {when} {fault}: {wrong}" if wrong else None

    def _is_wrong(self, place: Path, *, after_all: bool) -> str | None:
        store = Store(place)
        link = store.link_of("doubler")
        if not link.is_symlink():
            return "there is no current bundle"
        current = check(link, self.trust).digest
        if current != self.digests[2] and (after_all or current != self.digests[1]):
            return f"{current} is the current one"
        if not after_all:
            return None
        there = sorted(path.name for path in place.rglob("*") if "partial" in path.name or "gone" in path.name)
        kept = len(list(place.glob("bundles/*")))
        return f"left behind: {there}, {kept} bundles" if there or kept != 2 else None


def test_at_every_point_one_valid_bundle_runs_and_a_repeat_succeeds(tmp_path: Path) -> None:
    world = World(tmp_path)
    points = [(name, when, fault) for name, when in world.points() for fault in FAULTS]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        wrong = [
            found
            for found in pool.map(lambda job: world.try_out(job[0] + 1, *job[1]), enumerate(points))
            if found is not None
        ]
    calls = collections.Counter(name for name, _, _ in points)
    print(f"\n{len(points)} points: " + ", ".join(f"{count} {name}" for name, count in sorted(calls.items())))
    assert wrong == []
    assert len(points) > 100
