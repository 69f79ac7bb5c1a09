"""Memory of this process and of the machine, as the kernel counts it."""

from pathlib import Path


def peak_memory_bytes(process: Path = Path("/proc/self")) -> int:
    """The most resident memory this process has had since it started (VmHWM), its libraries included."""
    for line in (process / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def available_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """What could be taken now without swapping (MemAvailable); 0 where the kernel does not say."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
