"""Heat: thermal zones, what cools by slowing down, and the CPUs' own counters of being throttled."""

from collections.abc import Iterator
from pathlib import Path

from edgeward.measure import conditions, sysfs
from edgeward.measure.probes.base import Probe, Reading, What, measured, unreadable


class Thermal:
    def read(self, root: Path) -> Iterator[Reading]:
        for zone in sysfs.entries(root / "sys/class/thermal", "thermal_zone*"):
            yield _zone(zone)
        for device in sysfs.entries(root / "sys/class/thermal", "cooling_device*"):
            yield _cooling(device)
        for file in sysfs.entries(root / "sys/devices/system/cpu", "cpu[0-9]*/thermal_throttle/*_throttle_count"):
            name = f"{file.parent.parent.name} {file.name.removesuffix('_throttle_count')}"
            yield measured(file, What(name, "throttle count", "times"))


def _zone(zone: Path) -> Reading:
    what = What(sysfs.text(zone / "type") or zone.name, "temperature", "°C")
    found = measured(zone / "temp", what, scale=1e-3, least=-1e6)
    if isinstance(found.value, float) and not conditions.is_believable(found.value * 1000):
        return unreadable(zone / "temp", what, f"not readable: {found.value:g} °C, so the zone is switched off")
    return found


def _cooling(device: Path) -> Reading:
    most = sysfs.number(device / "max_state")
    slows = conditions.slows(sysfs.text(device / "type") or "")
    name = f"{sysfs.text(device / 'type') or device.name} {device.name.removeprefix('cooling_device')}"
    quantity = "slowing state" if slows else "cooling state"
    return measured(device / "cur_state", What(name, quantity, f"of {most}" if most is not None else "steps"))


plugin: Probe = Thermal()
