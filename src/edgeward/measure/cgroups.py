"""What a container or service allows this process of the machine: the smallest limit on its way to the root."""

from collections.abc import Iterator
from pathlib import Path

from edgeward.measure import sysfs

_CGROUPS = "sys/fs/cgroup"


def cpu_limit(root: Path = sysfs.ROOT) -> float | None:
    """CPUs' worth of time this process may use; None without a limit."""
    limits = [_cpus_v2(folder) for folder in folders(root, "")] + [_cpus_v1(folder) for folder in folders(root, "cpu")]
    return min((limit for limit in limits if limit is not None), default=None)


def memory_limit_bytes(root: Path = sysfs.ROOT) -> int | None:
    """Bytes this process and its group may use; None without a limit."""
    limits = [sysfs.number(folder / "memory.max") for folder in folders(root, "")]
    limits += [sysfs.number(folder / "memory.limit_in_bytes") for folder in folders(root, "memory")]
    # Version 1 says "no limit" by a number near 2^63.
    return min((limit for limit in limits if limit is not None and limit < 1 << 60), default=None)


def _cpus_v2(folder: Path) -> float | None:
    quota, _, period = (sysfs.text(folder / "cpu.max") or "").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _cpus_v1(folder: Path) -> float | None:
    quota, period = sysfs.number(folder / "cpu.cfs_quota_us"), sysfs.number(folder / "cpu.cfs_period_us")
    return quota / period if quota and quota > 0 and period else None


def folders(root: Path, controller: str) -> Iterator[Path]:
    """The process's group of `controller` ("" is version 2) and those above it, as far as they can be seen."""
    for line in (sysfs.text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller not in names.split(","):
            continue
        for top in (root / _CGROUPS / names, root / _CGROUPS / controller, root / _CGROUPS / "unified"):
            inside = Path(path.lstrip("/"))
            yield from (top / part for part in (inside, *inside.parents) if ".." not in part.parts)
