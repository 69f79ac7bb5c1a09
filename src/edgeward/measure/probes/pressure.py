"""How long tasks wait for CPU, memory and disks (PSI): shares of the last 10 s, and the total since boot."""

import re
from collections.abc import Iterator
from pathlib import Path

from edgeward.measure import sysfs
from edgeward.measure.probes.base import Probe, Reading, What, as_number, text_or_fault, unreadable

_LINE = re.compile(r"(some|full) avg10=(\S+) .*total=(\S+)")


class Pressure:
    def read(self, root: Path) -> Iterator[Reading]:
        for file in sysfs.entries(root / "proc/pressure"):
            text, fault = text_or_fault(file)
            lines = _LINE.findall(text)
            if not lines:
                yield unreadable(file, What(file.name, "waiting", "share"), fault or "not readable: no avg10 in it")
            for kind, share, total in lines:
                name = f"{file.name} {kind}"
                yield as_number(share, file, What(name, "waiting", "share"), scale=0.01, most=1.0)
                yield as_number(total, file, What(name, "waited since boot", "s"), scale=1e-6)


plugin: Probe = Pressure()
