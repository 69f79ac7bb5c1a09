"""Batteries and power supplies: what they give now."""

from collections.abc import Iterator
from pathlib import Path

from edgeward.measure import sysfs
from edgeward.measure.probes.base import Probe, Reading, What, measured, said

_NUMBERS = {"power_now": ("power", "mW", 1e-3), "current_now": ("current", "A", 1e-6),
            "voltage_now": ("voltage", "V", 1e-6), "capacity": ("charge", "%", 1.0)}  # fmt: skip


class PowerSupply:
    def read(self, root: Path) -> Iterator[Reading]:
        for folder in sysfs.entries(root / "sys/class/power_supply"):
            for file, (quantity, unit, scale) in _NUMBERS.items():
                if (folder / file).exists():
                    # Some drivers tell a battery that is drained as a negative current.
                    yield measured(folder / file, What(folder.name, quantity, unit), scale=scale, least=-1e6)
            if (folder / "status").exists():
                yield said(folder / "status", What(folder.name, "status"))


plugin: Probe = PowerSupply()
