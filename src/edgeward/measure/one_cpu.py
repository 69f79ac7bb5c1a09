"""Processes that are compared, on one CPU: those of a shared machine are seldom equally fast at a time.

What another guest does on the other thread of a core halves the speed of one virtual CPU and not of the next; two
models that run on two of them are then compared by that, however finely their turns alternate.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeward.measure import sysfs

_PROC, _CPUS = Path("/proc"), Path("/sys/devices/system/cpu")
_PROCESSOR = 36
"""Of the fields of stat behind the name: the CPU that it ran on last (proc(5))."""


def fast_cpu() -> int:
    """One of this process's CPUs, of the fastest kind where the kernel tells kinds apart (Documentation/ABI,
    cpu_capacity)."""
    allowed = os.sched_getaffinity(0)
    return max(allowed, key=lambda cpu: (sysfs.number(_CPUS / f"cpu{cpu}" / "cpu_capacity") or 0, cpu))


@contextmanager
def on_one_cpu(pids: Sequence[int]) -> Iterator[None]:
    """Within, all threads of these processes stay on the CPU that the first of them ran on last. Where that is not
    allowed, or a process is gone, they stay as they are."""
    before: dict[int, set[int]] = {}
    with suppress(OSError, ValueError, IndexError):
        fields = (_PROC / str(pids[0]) / "stat").read_text().rpartition(")")[2].split()
        cpu = int(fields[_PROCESSOR])
        for pid in pids:
            for thread in (int(path.name) for path in (_PROC / str(pid) / "task").iterdir()):
                before[thread] = os.sched_getaffinity(thread)
                os.sched_setaffinity(thread, {cpu})
    try:
        yield
    finally:
        for thread, cpus in before.items():
            with suppress(OSError):
                os.sched_setaffinity(thread, cpus)
