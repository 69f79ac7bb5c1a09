"""What a process may know of the machine without privileges: pressure, interrupts, who else was busy."""

import mmap
import os
import re
from pathlib import Path
from time import perf_counter_ns
from typing import NamedTuple

from edgeward.measure import sysfs

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Reading(NamedTuple):
    """Counters at one moment. Seconds that somebody waited (None where the kernel does not count them), interrupts by
    name, CPU ticks by process, and the ticks that the process waited for a disk (None where that is not counted)."""

    at_ns: int
    pressure_s: dict[str, float]
    interrupts: dict[str, int]
    ticks: dict[tuple[int, str], int]
    disk_ticks: int | None
    steal_ticks: int


class Surroundings(NamedTuple):
    """The difference of two readings. Shares are of the time between them; `busiest` are other processes by the share
    of one CPU that they took, and `interrupts` are the most frequent ones a second."""

    pressure: dict[str, float]
    interrupts_per_s: dict[str, float]
    busiest: tuple[tuple[str, int, float], ...]
    disk_wait: float | None
    steal: float


def read(pid: int, root: Path = sysfs.ROOT) -> Reading:
    pressure = {kind: total for kind in ("cpu", "memory", "io") if (total := _pressure_s(root, kind)) is not None}
    delayed = sysfs.text(root / "proc/sys/kernel/task_delayacct") == "1"
    own = _stat(root / f"proc/{pid}/stat")
    disk = int(own[39]) if delayed and len(own) > 39 else None
    ticks = {}
    for folder in sysfs.entries(root / "proc", "[0-9]*"):
        fields, name = _stat(folder / "stat"), sysfs.text(folder / "comm")
        if len(fields) > 12 and name and int(folder.name) not in (pid, os.getpid()):
            ticks[int(folder.name), name] = int(fields[11]) + int(fields[12])
    words = (sysfs.text(root / "proc/stat") or "cpu").splitlines()[0].split()
    steal = int(words[8]) if len(words) > 8 else 0
    return Reading(perf_counter_ns(), pressure, _interrupts(root), ticks, disk, steal)


def between(before: Reading, after: Reading, cpu_count: int) -> Surroundings:
    """What happened from one reading to the next."""
    seconds = max(1e-3, (after.at_ns - before.at_ns) / 1e9)
    ticks = seconds * _TICKS_PER_S
    busy = [
        (name, pid, (spent - before.ticks.get((pid, name), spent)) / ticks)
        for (pid, name), spent in after.ticks.items()
    ]
    rates = {name: (n - before.interrupts.get(name, n)) / seconds for name, n in after.interrupts.items()}
    both = before.disk_ticks is not None and after.disk_ticks is not None
    return Surroundings(
        pressure={kind: (s - before.pressure_s.get(kind, s)) / seconds for kind, s in after.pressure_s.items()},
        interrupts_per_s=dict(sorted(rates.items(), key=lambda item: -item[1])[:3]),
        busiest=tuple(sorted((one for one in busy if one[2] > 0), key=lambda one: -one[2])[:3]),
        disk_wait=((after.disk_ticks or 0) - (before.disk_ticks or 0)) / ticks if both else None,
        steal=(after.steal_ticks - before.steal_ticks) / ticks / cpu_count,
    )  # fmt: skip


def command_of(pid: int) -> str | None:
    """The command line of a process, None where it has none (the kernel's own) or has ended."""
    found = sysfs.text(Path(f"/proc/{pid}/cmdline"))
    return found.replace("\0", " ") if found else None


def fault_ns(pages: int = 2000) -> float:
    """What one page fault costs here that reads nothing: the first touch of a page, the median of five rounds."""
    size = mmap.PAGESIZE
    rounds = []
    for _ in range(5):
        with mmap.mmap(-1, pages * size) as fresh:
            fresh.madvise(getattr(mmap, "MADV_NOHUGEPAGE", 15))
            rounds.append(_touch_ns(fresh, pages, size) - _touch_ns(fresh, pages, size))
    return max(0.0, sorted(rounds)[2] / pages)


def _touch_ns(memory: mmap.mmap, pages: int, size: int) -> int:
    began = perf_counter_ns()
    for place in range(0, pages * size, size):
        memory[place] = 1
    return perf_counter_ns() - began


def _pressure_s(root: Path, kind: str) -> float | None:
    found = re.search(r"^some .*total=(\d+)", sysfs.text(root / f"proc/pressure/{kind}") or "", re.MULTILINE)
    return int(found[1]) / 1e6 if found else None


def _stat(path: Path) -> list[str]:
    """The fields after the name; the first is the state."""
    return (sysfs.text(path) or "").rpartition(")")[2].split()


def _interrupts(root: Path) -> dict[str, int]:
    counts = {}
    for line in (sysfs.text(root / "proc/interrupts") or "").splitlines()[1:]:
        label, _, rest = line.partition(":")
        words = rest.split()
        numbers = [int(word) for word in words if word.isdigit()]
        name = " ".join(word for word in words if not word.isdigit())
        counts[f"{label.strip()} {name}".strip()] = sum(numbers)
    return counts
