"""Readings that were kept: those in readings.json at the root of a recorded tree, as `edgeward probe --json` prints.

It needs no hardware. It is the reference for what a probe promises. On a living machine it reads nothing.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from edgeward.measure import sysfs
from edgeward.measure.probes.base import Probe, Reading, What, text_or_fault, unreadable


class Kept(msgspec.Struct):
    readings: tuple[Reading, ...]


class Recorded:
    def read(self, root: Path) -> Iterator[Reading]:
        file = root / "readings.json"
        if root == sysfs.ROOT or not file.exists():
            return
        text, fault = text_or_fault(file)
        try:
            yield from msgspec.json.decode(text, type=Kept).readings
        except (msgspec.DecodeError, UnicodeError) as error:
            yield unreadable(file, What("readings.json", "recorded"), fault or f"not readable: {error}")


plugin: Probe = Recorded()
