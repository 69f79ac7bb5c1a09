"""Memory of this process and of the machine, as the kernel counts it."""

from pathlib import Path
from typing import NamedTuple


class MemoryUsed(NamedTuple):
    """Bytes, and how they were counted: PSS shares what several processes have among them, RSS counts it whole."""

    size: int
    kind: str


def used_memory(process: Path = Path("/proc/self")) -> MemoryUsed:
    """What this process holds now: PSS (smaps_rollup, since Linux 4.14), RSS where the kernel has none."""
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("Pss:"):
            return MemoryUsed(int(line.split()[1]) * 1024, "PSS")
    for line in (process / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return MemoryUsed(int(line.split()[1]) * 1024, "RSS")
    return MemoryUsed(0, "RSS")


def available_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """What could be taken now without swapping (MemAvailable); 0 where the kernel does not say."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
