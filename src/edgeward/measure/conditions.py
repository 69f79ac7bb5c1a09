"""What else decides a number here and now: governor, load, heat, throttling, virtual machine."""

from __future__ import annotations  # a device may have Python 3.9

import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from edgeward.measure import sysfs


class Conditions(NamedTuple):
    """One reading. None where the machine does not say.

    `throttle_count` adds up the CPU's own counters since boot; `throttled_now` is heat or power holding the
    clock down at this moment.
    """

    governor: str | None
    load_per_core: float | None
    cpu_count: int
    throttle_count: int | None
    throttled_now: bool
    virtualization: str | None
    temperature_c: float | None

    def line(self) -> str:
        """One line for a person, such as "performance governor, load 0.05 per core, not throttled, 48 °C"."""
        parts = [f"{self.governor} governor" if self.governor else "no CPU governor visible"]
        if self.load_per_core is not None:
            parts.append(f"load {self.load_per_core:.2f} per core")
        parts.append(self._throttling())
        if self.temperature_c is not None:
            parts.append(f"{self.temperature_c:.0f} °C")
        parts.append(f"inside {self.virtualization}" if self.virtualization else "no virtual machine")
        return ", ".join(parts)

    def _throttling(self) -> str:
        if self.throttled_now:
            return "throttled now"
        return "no throttling counters" if self.throttle_count is None else "not throttled"


def conditions(root: Path = sysfs.ROOT) -> Conditions:
    """The conditions at this moment. Costs about a millisecond; a file that cannot be read is left out."""
    count = cpu_count(root)
    load = load_1_min(root)
    return Conditions(
        governor=governor(root),
        load_per_core=None if load is None else load / count,
        cpu_count=count,
        throttle_count=_throttle_count(root),
        throttled_now=_cooling_active(root) or _firmware_throttled(root),
        virtualization=virtualization(root),
        temperature_c=temperature_c(root),
    )


def throttled(before: Conditions, after: Conditions) -> bool:
    """Whether heat or power held the machine back at either reading or between them."""
    if before.throttled_now or after.throttled_now:
        return True
    return (after.throttle_count or 0) > (before.throttle_count or 0)


def cpu_count(root: Path = sysfs.ROOT) -> int:
    """The CPUs that are online, at least 1."""
    listed = sysfs.list_count(root / "sys/devices/system/cpu/online")
    if listed is not None:
        return listed
    return max(1, len(re.findall(r"^processor\s*:", sysfs.text(root / "proc/cpuinfo") or "", re.MULTILINE)))


def load_1_min(root: Path = sysfs.ROOT) -> float | None:
    """The load average of the last minute."""
    try:
        load = float((sysfs.text(root / "proc/loadavg") or "").split()[0])
    except (IndexError, ValueError):
        return None
    return load if math.isfinite(load) else None


def governor(root: Path = sysfs.ROOT) -> str | None:
    """The frequency governor; several, joined by "+", where clusters of CPUs differ."""
    policies = sysfs.entries(root / "sys/devices/system/cpu/cpufreq", "policy*")
    names = {name for policy in policies if (name := sysfs.text(policy / "scaling_governor"))}
    return "+".join(sorted(names)) or None


def temperature_c(root: Path = sysfs.ROOT) -> float | None:
    """The hottest thermal zone that gives a believable value."""
    readings = [sysfs.number(zone / "temp") for zone in sysfs.entries(root / "sys/class/thermal", "thermal_zone*")]
    return max((value / 1000 for value in readings if value is not None and is_believable(value)), default=None)


def is_believable(millidegrees: float) -> bool:
    """A zone that is switched off reads 0, -274000 or the like."""
    return -40_000 < millidegrees < 150_000 and millidegrees != 0


def virtualization(root: Path = sysfs.ROOT) -> str | None:
    """The hypervisor and container around us, such as "kvm", "docker" or "kvm + docker"; None on bare metal."""
    around = [name for name in (_hypervisor(root), _container(root)) if name]
    return " + ".join(around) or None


_VENDORS = {
    "qemu": "kvm", "kvm": "kvm", "firecracker": "firecracker", "amazon ec2": "amazon",
    "google compute engine": "google", "vmware": "vmware", "virtualbox": "virtualbox", "innotek": "virtualbox",
    "xen": "xen", "parallels": "parallels",
}  # fmt: skip


def _hypervisor(root: Path) -> str | None:
    if kind := sysfs.text(root / "sys/hypervisor/type"):
        return kind
    vendor = " ".join(sysfs.text(root / "sys/class/dmi/id" / name) or "" for name in ("sys_vendor", "product_name"))
    for mark, name in _VENDORS.items():
        if mark in vendor.lower():
            return name
    if vendor.lower() == "microsoft corporation virtual machine":
        return "hyper-v"
    flags = sysfs.fields(root / "proc/cpuinfo").get("flags", "").split()
    node = "\0".join(sysfs.words(root / "proc/device-tree/hypervisor/compatible"))
    if "hypervisor" not in flags and not node:
        return None
    clock = sysfs.text(root / "sys/devices/system/clocksource/clocksource0/available_clocksource") or ""
    for mark, name in (("kvm", "kvm"), ("hyperv", "hyper-v"), ("xen", "xen")):
        if mark in clock or mark in node:
            return name
    return "virtual machine"


def _container(root: Path) -> str | None:
    if name := sysfs.text(root / "run/systemd/container"):
        return name
    if (root / ".dockerenv").exists():
        return "docker"
    return "podman" if (root / "run/.containerenv").exists() else None


def _throttle_count(root: Path) -> int | None:
    cpus = sysfs.entries(root / "sys/devices/system/cpu", "cpu[0-9]*")
    names = ("core_throttle_count", "package_throttle_count")
    counts = [sysfs.number(cpu / "thermal_throttle" / name) for cpu in cpus for name in names]
    seen = [count for count in counts if count is not None]
    return sum(seen) if seen else None


def _cooling_active(root: Path) -> bool:
    for device in sysfs.entries(root / "sys/class/thermal", "cooling_device*"):
        if slows(sysfs.text(device / "type") or "") and (sysfs.number(device / "cur_state") or 0) > 0:
            return True
    return False


def slows(kind: str) -> bool:
    """Whether a cooling device of this type cools by holding a clock down, as fans do not; "Processor" is the ACPI name
    of CPU throttling."""
    return kind.lower().startswith(("cpufreq", "devfreq", "processor", "thermal-cpufreq", "thermal-devfreq"))


def _firmware_throttled(root: Path) -> bool:
    # Bits 0-3 of the Raspberry Pi's firmware: under-voltage, frequency capped, throttled, soft temperature limit.
    return bool((pi_throttled(root) or 0) & 0xF) or _pi_under_voltage(root)


def _pi_under_voltage(root: Path) -> bool:
    sensors = sysfs.entries(root / "sys/class/hwmon", "hwmon*")
    return any(sysfs.text(s / "name") == "rpi_volt" and sysfs.number(s / "in0_lcrit_alarm") == 1 for s in sensors)


def pi_throttled(root: Path = sysfs.ROOT) -> int | None:
    """The Raspberry Pi firmware's throttling word; bits 16-19 tell what happened since boot."""
    for file in sysfs.entries(root / "sys/devices/platform", "soc*/*firmware/get_throttled"):
        try:
            return int(sysfs.text(file) or "", 16)
        except ValueError:
            continue
    return _asked_firmware() if root == sysfs.ROOT else None


def _asked_firmware() -> int | None:
    """The same from `vcgencmd get_throttled`, where the kernel has no file for it: "throttled=0x50005"."""
    program = shutil.which("vcgencmd")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "get_throttled"], capture_output=True, text=True, timeout=2, check=False)
        return int(done.stdout.partition("=")[2].strip(), 16)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
