"""The doctor's facts of disk, memory, clock, kernel, limits and accelerators' versions, from a machine or a tree."""

import gzip
import math
import re
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from edgeward.measure import sysfs

_LIBRARIES = ("usr/lib", "usr/lib/*-linux-gnu", "usr/lib64", "usr/local/lib", "usr/lib/*-linux-gnu/nvidia")
_VERSIONED = {"hailo": "libhailort.so.*", "nvidia": "libnvidia-ml.so.*", "tensorrt": "libnvinfer.so.*"}
_EMMC = "sys/block/mmcblk[0-9]*/device"

PATTERNS = (
    "proc/vmstat", "proc/swaps", "proc/mounts", "proc/version", "proc/config.gz", "proc/self/cgroup",
    "proc/sys/vm/swappiness", "proc/sys/kernel/perf_event_paranoid", "proc/sys/kernel/sched_rt_runtime_us",
    "proc/driver/nvidia/version", "sys/module/hailo_pci/version", "sys/module/hailo1x_pci/version",
    "sys/kernel/debug/rknpu/version", "etc/nv_tegra_release", "sys/kernel/realtime",
    "sys/kernel/tracing/kprobe_events", "sys/block/mmcblk[0-9]*/device/*e*", "sys/fs/ext4/*/errors_count",
    "sys/fs/cgroup/cpu.max", "sys/fs/cgroup/memory.max", "sys/fs/cgroup/*/cpu.rt_runtime_us",
    "sys/fs/cgroup/*/cpu.cfs_*_us", "sys/fs/cgroup/*.slice/**/cpu.max", "sys/fs/cgroup/*.slice/**/memory.max",
    "sys/kernel/mm/transparent_hugepage/enabled", "sys/class/rtc/rtc[0-9]*/since_epoch",
)  # fmt: skip
"""What a device is asked for, so that all this can be read elsewhere."""
BARE = ("sys/kernel/btf/vmlinux", *(f"{folder}/{name}" for folder in _LIBRARIES for name in _VERSIONED.values()))
"""Of these only the names matter; what they hold is large."""


class Tried(Struct, frozen=True):
    """What `measure/tried.py` found; None where it was not tried or gave no answer, as with a recorded tree."""

    now: float | None = None
    user: str = "pi"
    uid: int = 1000
    pointer_bits: int = 64
    kernel_arch: str = "unknown"
    text_encoding: str = "UTF-8"
    usable_cpu_count: int | None = None
    closed_nodes: dict[str, str] = {}
    storage_free_bytes: int | None = None
    inodes_free: int | None = None
    read_only: bool = False
    fsync_ms: float | None = None
    clock_synchronised: bool | None = None
    clock_jump_s: float | None = None
    real_time_limit: int | None = None
    memory_lock_limit: int | None = None
    real_time_refusal: str | None = None
    address_limit_holds: bool | None = None
    cpus_taken: float | None = None
    packages: dict[str, str] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wear:
    """How far an eMMC is used up: tenths of its life, its reserve as JEDEC counts (1 normal, 3 urgent)."""

    device: str
    life_tenths: int
    reserve: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Versions:
    """Of one accelerator: its kernel driver, the library that talks to it, and what Python has for it."""

    kind: str
    driver: str | None
    library: str | None
    runtime: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """None where the machine does not say; `group` is the process's cgroup of the controller cpu."""

    tried: Tried
    root_read_only: bool
    root_device: str | None
    file_system_errors: int
    wear: tuple[Wear, ...]
    swap_devices: tuple[str, ...]
    swappiness: int | None
    oom_kills: int | None
    rtc_behind_s: float | None
    is_real_time_kernel: bool
    has_btf: bool
    has_kprobes: bool | None
    has_tracefs: bool
    perf_event_paranoid: int | None
    cgroups: str
    has_rt_group_sched: bool
    group: str
    group_rt_runtime_us: int | None
    rt_runtime_us: int | None
    huge_pages: str | None
    versions: tuple[Versions, ...]


def read_system(root: Path, tried: Tried) -> System:
    """The facts of the machine at `root`; what no file tells is taken from `tried`."""
    mounts = [line.split() for line in (sysfs.text(root / "proc/mounts") or "").splitlines()]
    disk = next((words for words in reversed(mounts) if len(words) > 3 and words[1] == "/"), None)
    config = kernel_configuration(root)
    group, runtime = _real_time_group(root)
    return System(
        tried=tried,
        root_read_only=disk is not None and "ro" in disk[3].split(",") and disk[2] not in ("squashfs", "overlay"),
        root_device=disk[0] if disk else None,
        file_system_errors=sum(sysfs.number(one) or 0 for one in sysfs.entries(root, "sys/fs/ext4/*/errors_count")),
        wear=_wear(root),
        swap_devices=tuple(line.split()[0] for line in (sysfs.text(root / "proc/swaps") or "").splitlines()[1:]),
        swappiness=sysfs.number(root / "proc/sys/vm/swappiness"),
        oom_kills=_field(root / "proc/vmstat", "oom_kill"),
        rtc_behind_s=_rtc_behind_s(root, tried.now),
        is_real_time_kernel=sysfs.text(root / "sys/kernel/realtime") == "1"
        or "PREEMPT_RT" in (sysfs.text(root / "proc/version") or ""),
        has_btf=(root / "sys/kernel/btf/vmlinux").exists(),
        has_kprobes=_has_kprobes(root, config),
        has_tracefs=any(words[2] == "tracefs" for words in mounts if len(words) > 2),
        perf_event_paranoid=sysfs.number(root / "proc/sys/kernel/perf_event_paranoid"),
        cgroups=_cgroups({words[2]: words[1] for words in mounts if len(words) > 2}),
        has_rt_group_sched=runtime is not None or config.get("CONFIG_RT_GROUP_SCHED") == "y",
        group=group,
        group_rt_runtime_us=runtime,
        rt_runtime_us=sysfs.number(root / "proc/sys/kernel/sched_rt_runtime_us"),
        huge_pages=_chosen(sysfs.text(root / "sys/kernel/mm/transparent_hugepage/enabled")),
        versions=tuple(_versions(root, tried.packages)),
    )


def kernel_configuration(root: Path) -> dict[str, str]:
    """The options that the kernel was built with; empty where it does not keep them."""
    try:
        with gzip.open(root / "proc/config.gz", "rt") as file:
            return dict(line.strip().split("=", 1) for line in file if line.startswith("CONFIG_"))
    except (OSError, EOFError, ValueError):
        return {}


def _field(path: Path, name: str) -> int | None:
    found = re.search(rf"^{name} (\d+)$", sysfs.text(path) or "", re.MULTILINE)
    return int(found.group(1)) if found else None


def _wear(root: Path) -> tuple[Wear, ...]:
    found = []
    for device in sysfs.entries(root, _EMMC):
        words = [int(word, 16) for word in re.findall(r"0x[0-9a-fA-F]{1,2}\b", sysfs.text(device / "life_time") or "")]
        if any(words):
            reserve = sysfs.number(device / "pre_eol_info") or 0
            found.append(Wear(device=device.parent.name, life_tenths=max(words), reserve=reserve))
    return tuple(found)


def _rtc_behind_s(root: Path, now: float | None) -> float | None:
    clocks = [sysfs.number(file) for file in sysfs.entries(root, "sys/class/rtc/rtc[0-9]*/since_epoch")]
    told = next((value for value in clocks if value is not None), None)
    return None if told is None or now is None or not math.isfinite(now) else now - told


def _has_kprobes(root: Path, config: dict[str, str]) -> bool | None:
    if (root / "sys/kernel/tracing/kprobe_events").exists():
        return True
    return config.get("CONFIG_KPROBES") == "y" if config else None


def _cgroups(kinds: dict[str, str]) -> str:
    """v2, hybrid (both), v1, or none, from each kind of file system and where it is mounted."""
    if "cgroup2" in kinds:
        return "hybrid" if "cgroup" in kinds else "v2"
    return "v1" if "cgroup" in kinds else "none"


def _real_time_group(root: Path) -> tuple[str, int | None]:
    """The process's group of the controller cpu, and the real-time microseconds that it has; None without the rule."""
    for line in (sysfs.text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for top in (names, "cpu", "cpu,cpuacct"):
            file = root / "sys/fs/cgroup" / top / path.lstrip("/") / "cpu.rt_runtime_us"
            if "cpu" in names.split(",") and ".." not in file.parts and (runtime := sysfs.number(file)) is not None:
                return f"/sys/fs/cgroup/{top}/{path.lstrip('/')}".rstrip("/"), runtime
    return "", None


def _chosen(text: str | None) -> str | None:
    found = re.search(r"\[(\w+)\]", text or "")
    return found.group(1) if found else None


def _versions(root: Path, packages: dict[str, str]) -> list[Versions]:
    """Those kinds of which the machine has a driver loaded."""
    release = re.search(r"R(\d+) .*REVISION: ([\d.]+)", sysfs.text(root / "etc/nv_tegra_release") or "")
    nvidia = re.search(r"(?:Module|x86_64|aarch64)\s+(\d+\.\d+(?:\.\d+)?)", _nvidia(root))
    rknpu = re.search(r"v?(\d+\.\d+\.\d+)", sysfs.text(root / "sys/kernel/debug/rknpu/version") or "")
    hailo = [sysfs.text(root / "sys/module" / name / "version") for name in ("hailo_pci", "hailo1x_pci")]
    drivers = {
        "hailo": next((version for version in hailo if version), None),
        "nvidia": nvidia.group(1) if nvidia else None,
        "jetson": f"L4T {release.group(1)}.{release.group(2)}" if release else None,
        "rockchip": rknpu.group(1) if rknpu else None,
    }
    libraries = {"jetson": _library(root, "tensorrt"), **{kind: _library(root, kind) for kind in ("hailo", "nvidia")}}
    runtimes = {"hailo": "hailort", "nvidia": "onnxruntime-gpu", "jetson": "tensorrt", "rockchip": "rknn-toolkit-lite2"}
    return [
        Versions(kind=kind, driver=driver, library=libraries.get(kind), runtime=packages.get(runtimes[kind]))
        for kind, driver in drivers.items()
        if driver
    ]


def _nvidia(root: Path) -> str:
    return (sysfs.text(root / "proc/driver/nvidia/version") or "").partition("\n")[0]


def _library(root: Path, kind: str) -> str | None:
    """The longest version in the names of the library's files: libhailort.so.4.20.0 → 4.20.0."""
    names = [path.name for folder in _LIBRARIES for path in sysfs.entries(root, f"{folder}/{_VERSIONED[kind]}")]
    versions = [found.group(1) for name in names if (found := re.search(r"\.so\.(\d+\.\d+(?:\.\d+)*)$", name))]
    return max(versions, key=lambda version: tuple(map(int, version.split("."))), default=None)
