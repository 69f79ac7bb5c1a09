"""Power of rails that an INA2xx or INA3221 measures: hwmon, and the iio files of older Jetsons."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgeward.measure import sysfs
from edgeward.measure.probes.base import Probe, Reading, What, labelled, measured, unreadable

_MOST_MW = 1e6
_SUM_OF_SHUNTS = 7


class Rail(NamedTuple):
    """One channel: a file that says power, or one of voltage and one of current. `in_milli` is what power's number is
    multiplied by to be milliwatts."""

    name: str
    power: Path | None
    voltage: Path
    current: Path
    in_milli: float = 1.0


class Ina:
    def read(self, root: Path) -> Iterator[Reading]:
        for rail in rails(root):
            yield power_of(rail)
            if rail.power is None:
                yield measured(rail.voltage, What(rail.name, "voltage", "V"), scale=1e-3, least=-100)
                yield measured(rail.current, What(rail.name, "current", "A"), scale=1e-3, least=-1e6)
            for kind in ("max_alarm", "crit_alarm"):
                alarm = rail.current.with_name(rail.current.name.replace("input", kind))
                if alarm != rail.current and alarm.exists():
                    yield measured(alarm, What(rail.name, f"over-current {kind.removesuffix('_alarm')}", "now"))


def power_of(rail: Rail) -> Reading:
    """The rail's power now in milliwatts."""
    what = What(rail.name, "power", "mW")
    if rail.power is not None:
        return measured(rail.power, what, scale=rail.in_milli, most=_MOST_MW)
    volt = measured(rail.voltage, What(rail.name, "voltage", "mV"))
    ampere = measured(rail.current, What(rail.name, "current", "mA"))
    fault = volt.fault or ampere.fault
    if fault or not isinstance(volt.value, float) or not isinstance(ampere.value, float):
        return unreadable(rail.current, what, fault or "not readable: no number")
    return Reading(
        name=rail.name, quantity="power", unit="mW", value=volt.value * ampere.value / 1000, path=str(rail.current)
    )  # fmt: skip


def rails(root: Path) -> tuple[Rail, ...]:
    """Every rail below `root`, each once, whichever way leads to it."""
    found: dict[Path, Rail] = {}
    folders = [*sysfs.entries(root / "sys/class/hwmon", "hwmon*"),
               *sysfs.entries(root / "sys/bus/i2c/devices", "*/hwmon/hwmon*")]  # fmt: skip
    for folder in folders:
        chip = sysfs.text(folder / "name") or sysfs.text(folder / "../../name") or ""
        if chip.startswith("ina"):
            for rail in _of_hwmon(folder, chip):
                found.setdefault(rail.current.resolve(), rail)
    for device in sysfs.entries(root / "sys/bus/i2c/devices", "*/iio:device*"):
        for rail in _of_iio(device):
            found.setdefault(rail.current.resolve(), rail)
    return tuple(found.values())


def _of_hwmon(folder: Path, chip: str) -> Iterator[Rail]:
    for current in sysfs.entries(folder, "curr*_input"):
        number = current.name.removeprefix("curr").removesuffix("_input")
        name = labelled(folder, f"in{number}", f"{chip} {number}" if chip.startswith("ina3221") else chip)
        if name == "NC" or number == str(_SUM_OF_SHUNTS) or "sum" in name.lower():
            continue
        # An INA2xx has its shunt's voltage in in0 and the bus's in in1; an INA3221 has one bus voltage a channel.
        power = folder / f"power{number}_input"
        yield Rail(name, power if power.exists() else None, folder / f"in{number}_input", current, 1e-3)


def _of_iio(device: Path) -> Iterator[Rail]:
    for file in sysfs.entries(device, "rail_name_*"):
        number, name = file.name.removeprefix("rail_name_"), sysfs.text(file)
        if name and name != "NC":
            power = device / f"in_power{number}_input"
            voltage, current = (device / f"in_{what}{number}_input" for what in ("voltage", "current"))
            yield Rail(name, power if power.exists() else None, voltage, current)


plugin: Probe = Ina()
