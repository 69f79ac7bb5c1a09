"""The machine itself: how busy its CPUs are, memory, pressure, heat, power."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from edgeward.measure import conditions, sysfs


class Reading(NamedTuple):
    """Counters that grow: ticks of each CPU as (busy, all), and each energy meter in microjoules."""

    cpus: tuple[tuple[int, int], ...]
    energy_uj: dict[str, int]


def read(root: Path = sysfs.ROOT) -> Reading:
    return Reading(_cpus(root), _energy_uj(root))


def _cpus(root: Path) -> tuple[tuple[int, int], ...]:
    lines = re.findall(r"^cpu\d+ (.*)$", sysfs.text(root / "proc/stat") or "", re.MULTILINE)
    counts = [[int(word) for word in line.split()[:8]] for line in lines]
    # user nice system idle iowait irq softirq steal: a CPU that waits for a disk is free for others
    return tuple((sum(count) - sum(count[3:5]), sum(count)) for count in counts)


def _energy_uj(root: Path) -> dict[str, int]:
    """The packages' own meters; a package's cores are in it already."""
    zones = sysfs.entries(root / "sys/class/powercap", "*-rapl:*")
    packages = [zone for zone in zones if zone.name.count(":") == 1]
    found = {zone.name: sysfs.number(zone / "energy_uj") for zone in packages}
    return {name: value for name, value in found.items() if value is not None}


def busy(before: Reading | None, after: Reading) -> list[float]:
    """Each CPU's share of time at work between two readings; empty without an earlier one."""
    if before is None or len(before.cpus) != len(after.cpus):
        return []
    spans = [(now[0] - then[0], now[1] - then[1]) for then, now in zip(before.cpus, after.cpus)]
    return [round(min(1.0, max(0, used) / passed), 3) if passed > 0 else 0.0 for used, passed in spans]


def power_mw(before: Reading | None, after: Reading, elapsed_s: float, root: Path = sysfs.ROOT) -> float | None:
    """What the machine draws: of a sensor that says it, else by its energy counters; None without a meter."""
    sensors = [sysfs.number(file) for file in sysfs.entries(root / "sys/class/hwmon", "hwmon*/power1_input")]
    known = [value / 1000 for value in sensors if value is not None and value >= 0]
    if known:
        return round(sum(known), 1)
    if before is None or elapsed_s <= 0:
        return None
    spent = [value - before.energy_uj[name] for name, value in after.energy_uj.items() if name in before.energy_uj]
    # A counter that starts again from zero says nothing about this interval.
    return round(sum(spent) / 1000 / elapsed_s, 1) if spent and min(spent) >= 0 else None


def state(before: Reading | None, after: Reading, elapsed_s: float, root: Path = sysfs.ROOT) -> dict[str, Any]:
    """The machine as a frame tells it."""
    memory = sysfs.fields(root / "proc/meminfo")
    total, free = (sysfs.kibibytes(memory.get(name)) for name in ("MemTotal", "MemAvailable"))
    around = conditions.conditions(root)
    cpus = busy(before, after)
    return {
        "hostname": sysfs.text(root / "proc/sys/kernel/hostname") or "unknown",
        "cpu_count": around.cpu_count,
        "cpu_busy": round(sum(cpus) / len(cpus), 3) if cpus else None,
        "cpus": cpus,
        "load": conditions.load_1_min(root),
        "memory_bytes": total,
        "memory_used_bytes": max(0, total - free),
        "waits": {name: _pressure(root, name) for name in ("cpu", "memory", "io")},
        "frequency_mhz": _frequency_mhz(root),
        "governor": around.governor,
        "throttled": around.throttled_now,
        "temperature_c": around.temperature_c,
        "power_mw": power_mw(before, after, elapsed_s, root),
        "virtualization": around.virtualization,
        "kernel": os.uname().release,
    }


def _pressure(root: Path, what: str) -> float | None:
    """The share of the last ten seconds in which some task waited for it, 0..1."""
    found = re.search(r"^some avg10=([0-9.]+)", sysfs.text(root / "proc/pressure" / what) or "", re.MULTILINE)
    return min(1.0, float(found.group(1)) / 100) if found else None


def _frequency_mhz(root: Path) -> float | None:
    """Of the fastest CPU now."""
    files = sysfs.entries(root / "sys/devices/system/cpu/cpufreq", "policy*/scaling_cur_freq")
    return max((value / 1000 for file in files if (value := sysfs.number(file))), default=None)
