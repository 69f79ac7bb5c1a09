"""What the control group of this process allows it, and how often that held it back (version 1, 2 or both)."""

from collections.abc import Iterator
from pathlib import Path

from edgeward.measure import cgroups
from edgeward.measure.probes.base import Probe, Reading, What, as_number, text_or_fault, unreadable

_COUNTS = {
    "nr_throttled": ("times throttled", "times", 1.0), "throttled_usec": ("time throttled", "s", 1e-6),
    "throttled_time": ("time throttled", "s", 1e-9), "oom_kill": ("killed for memory", "times", 1.0),
    "max": ("reclaimed at its limit", "times", 1.0),
}  # fmt: skip


class Cgroup:
    def read(self, root: Path) -> Iterator[Reading]:
        source = root / "proc/self/cgroup"
        limits = {"CPUs": (cgroups.cpu_limit(root), "CPUs"), "memory": (cgroups.memory_limit_bytes(root), "bytes")}
        for name, (limit, unit) in limits.items():
            if limit is not None:
                yield as_number(str(limit), source, What(name, "limit", unit))
        for controller, file in (("", "cpu.stat"), ("cpu", "cpu.stat"), ("", "memory.events")):
            yield from _counts(root, controller, file)


def _counts(root: Path, controller: str, file: str) -> Iterator[Reading]:
    """Of the process's own group and those above it, as far as they are seen."""
    for folder in dict.fromkeys(cgroups.folders(root, controller)):
        path = folder / file
        if not path.exists():
            continue
        text, fault = text_or_fault(path)
        if fault:
            yield unreadable(path, What(folder.name, file), fault)
        for line in text.splitlines():
            key, _, value = line.partition(" ")
            if key in _COUNTS:
                quantity, unit, scale = _COUNTS[key]
                place = folder.relative_to(root / "sys/fs/cgroup")
                yield as_number(value, path, What(f"{place}", quantity, unit), scale=scale)


plugin: Probe = Cgroup()
