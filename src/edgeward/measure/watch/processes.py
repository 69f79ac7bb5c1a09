"""What one process uses: CPU by thread, and memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from edgeward.measure import sysfs

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Thread(NamedTuple):
    """`ticks` of CPU that it has used in its life; `core` is where it ran last."""

    name: str
    ticks: int
    core: int


class Process(NamedTuple):
    """One reading. `memory_bytes` is its proportional share (PSS) where that may be read, else its resident set."""

    threads: dict[int, Thread]
    memory_bytes: int
    memory_kind: str


def read(pid: int, root: Path = sysfs.ROOT) -> Process | None:
    """The process at this moment; None where it is gone."""
    folder = root / "proc" / str(pid)
    try:
        tasks = list((folder / "task").iterdir())
    except OSError:
        return None
    threads = {int(task.name): thread for task in tasks if (thread := _thread(task / "stat"))}
    if not threads:
        return None
    size, kind = _memory(folder)
    return Process(threads, size, kind)


def _thread(file: Path) -> Thread | None:
    text = sysfs.text(file)
    if text is None:
        return None
    # A name may hold spaces and brackets; what follows its last bracket are numbers.
    head, _, rest = text.rpartition(")")
    words = rest.split()
    if len(words) < 37:
        return None
    return Thread(head.partition("(")[2], int(words[11]) + int(words[12]), int(words[36]))


def _memory(folder: Path) -> tuple[int, str]:
    share = sysfs.fields(folder / "smaps_rollup").get("Pss")
    if share is not None:
        return sysfs.kibibytes(share), "PSS"
    return sysfs.kibibytes(sysfs.fields(folder / "status").get("VmRSS")), "RSS"


def cpu_by_thread(before: Process | None, after: Process, elapsed_s: float) -> list[dict[str, Any]]:
    """Each thread with the share of one CPU that it used between two readings, the busiest first; a thread without
    an earlier reading has none."""
    rows = []
    for number, thread in after.threads.items():
        earlier = before.threads.get(number) if before else None
        used = None
        if before is not None and elapsed_s > 0:
            used = max(0, thread.ticks - (earlier.ticks if earlier else 0)) / TICKS_PER_S / elapsed_s
        cpu = None if used is None else round(used, 3)
        rows.append({"id": number, "name": thread.name, "cpu": cpu, "core": thread.core})
    return sorted(rows, key=lambda row: (-(row["cpu"] or 0), row["id"]))
