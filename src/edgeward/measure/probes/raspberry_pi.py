"""What a Raspberry Pi's firmware tells: under-voltage and throttling, now and since boot, and the rails of its PMIC."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgeward.kit import process
from edgeward.kit.errors import Failed
from edgeward.measure import conditions, sysfs
from edgeward.measure.probes.base import Probe, Reading, What, as_number, measured, unreadable

_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_ADC = re.compile(r"^\s*(\S+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.eE+-]+)[AV]", re.MULTILINE)
_COMMAND = "vcgencmd pmic_read_adc"


class RaspberryPi:
    def read(self, root: Path) -> Iterator[Reading]:
        yield from _throttling(root)
        for sensor in sysfs.entries(root / "sys/class/hwmon", "hwmon*"):
            if sysfs.text(sensor / "name") == "rpi_volt":
                yield measured(sensor / "in0_lcrit_alarm", What("rpi_volt", "under-voltage alarm", "now"))
        model = sysfs.text(root / "proc/device-tree/model") or ""
        if root == sysfs.ROOT and model.startswith(("Raspberry Pi 5", "Raspberry Pi Compute Module 5")):
            yield from _pmic()


def _throttling(root: Path) -> Iterator[Reading]:
    word = conditions.pi_throttled(root)
    files = sysfs.entries(root / "sys/devices/platform", "soc*/*firmware/get_throttled")
    source = str(files[0]) if files else "vcgencmd get_throttled"
    if word is None:
        if files:
            yield unreadable(source, What("firmware", "throttled"), "not readable: no hexadecimal number")
        return
    for bit, name in _BITS.items():
        for shift, when in ((0, "now"), (16, "since boot")):
            value = float(word >> (bit + shift) & 1)
            yield Reading(name=name, quantity=when, unit="yes or no", value=value, path=source)


def _pmic() -> Iterator[Reading]:
    what = What("pmic", "power", "mW")
    if shutil.which("vcgencmd") is None:
        yield unreadable(_COMMAND, what, "not readable: vcgencmd is not installed (package raspi-utils)")
        return
    try:
        done = process.run(_COMMAND.split(), limit_s=5)
    except (Failed, OSError) as error:
        yield unreadable(_COMMAND, what, f"not readable: {error}")
        return
    found = list(pmic_rails(done.output.decode(errors="replace")))
    yield from found or [unreadable(_COMMAND, what, f"not readable: {done.complaint or done.ending}")]


def pmic_rails(text: str) -> Iterator[Reading]:
    """The power of each rail whose current and voltage the firmware lists. What USB and 5 V devices take is not in
    them."""
    current, voltage = dict[str, str](), dict[str, str]()
    for rail, kind, value in _ADC.findall(text):
        (current if kind == "A" else voltage)[rail] = value
    for rail in current:
        ampere, volt = (as_number(held.get(rail, ""), _COMMAND, What(rail, "")) for held in (current, voltage))
        what = What(rail, "power", "mW")
        if isinstance(ampere.value, float) and isinstance(volt.value, float):
            yield as_number(str(ampere.value * volt.value * 1000), _COMMAND, what)
        else:
            yield unreadable(_COMMAND, what, ampere.fault or volt.fault or "not readable: no number")


plugin: Probe = RaspberryPi()
