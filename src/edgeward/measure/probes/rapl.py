"""The processor's own energy counters (RAPL, by powercap): package, core, uncore, dram, psys."""

from collections.abc import Iterator
from pathlib import Path

from edgeward.measure import sysfs
from edgeward.measure.probes.base import Probe, Reading, What, measured


class Rapl:
    def read(self, root: Path) -> Iterator[Reading]:
        for zone in zones(root):
            name = zone_name(zone)
            yield measured(zone / "energy_uj", What(name, "energy", "mJ"), scale=1e-3)
            if (zone / "max_energy_range_uj").exists():
                range_file = zone / "max_energy_range_uj"
                yield measured(range_file, What(name, "counter range", "mJ"), scale=1e-3, least=1e-3)


def zones(root: Path) -> tuple[Path, ...]:
    """The zones below `root`, each once: what is seen a second time through memory-mapped registers is left out."""
    found = sysfs.entries(root / "sys/class/powercap", "*-rapl*:*")
    return tuple(zone for zone in found if "mmio" not in zone.name)


def zone_name(zone: Path) -> str:
    """Such as "package-0", or "package-0 core" for a part of it."""
    own = sysfs.text(zone / "name") or zone.name
    parent = zone.parent / zone.name.rpartition(":")[0]
    return f"{sysfs.text(parent / 'name') or parent.name} {own}" if zone.name.count(":") > 1 else own


plugin: Probe = Rapl()
