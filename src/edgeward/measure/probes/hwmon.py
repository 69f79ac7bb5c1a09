"""Every other sensor that the kernel lists under hwmon, by the driver's name."""

import re
from collections.abc import Iterator
from pathlib import Path

from edgeward.measure import sysfs
from edgeward.measure.probes.base import Probe, Reading, What, labelled, measured

_KINDS = {
    "temp": ("temperature", "°C", 1e-3, -60.0), "power": ("power", "mW", 1e-3, 0.0),
    "energy": ("energy", "mJ", 1e-3, 0.0), "in": ("voltage", "V", 1e-3, -100.0),
    "curr": ("current", "A", 1e-3, -1e6), "fan": ("speed", "rpm", 1.0, 0.0),
}  # fmt: skip
_FILE = re.compile(r"(temp|power|energy|in|curr|fan)(\d+)_(input|average)")


class Hwmon:
    def read(self, root: Path) -> Iterator[Reading]:
        for folder in sysfs.entries(root / "sys/class/hwmon", "hwmon*"):
            chip = sysfs.text(folder / "name") or folder.name
            if not chip.startswith("ina"):  # those have a probe of their own
                yield from _chip(folder, chip)


def _chip(folder: Path, chip: str) -> Iterator[Reading]:
    for file in sysfs.entries(folder):
        if found := _FILE.fullmatch(file.name):
            kind, number, how = found.groups()
            quantity, unit, scale, least = _KINDS[kind]
            name = f"{chip} {labelled(folder, kind + number, kind + number)}"
            what = What(name, f"{quantity}, average" if how == "average" else quantity, unit)
            yield measured(file, what, scale=scale, least=least)


plugin: Probe = Hwmon()
