"""Reads a machine's energy meter while a model runs, and while nothing does."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from edgeward.kit.errors import Unsupported
from edgeward.measure import sysfs
from edgeward.measure.bench import steady_runs
from edgeward.measure.energy import Meter, Sample, per_inference, spent
from edgeward.measure.jobs import Contender
from edgeward.measure.probes import ina, rapl
from edgeward.records.candidate import Energy

_HZ = 50.0
WHOLE = ("VDD_IN", "POM_5V_IN")
"""What a Jetson calls the rail that feeds all of it."""
SECONDS = 3.0
IDLE_S = 1.5


class Wired(NamedTuple):
    """A meter, and how its value is read now; None is a sample that was lost."""

    meter: Meter
    read: Callable[[], float | None]


def meter_of(root: Path = sysfs.ROOT) -> Wired:
    """The meter with the widest scope: the whole machine (psys, a board's input rail), then measured rails, then the
    processor's packages with their memory. Raises Unsupported, with what would help, where none is readable."""
    for found in (_psys(root), _rails(root), _packages(root)):
        if found is not None and found.read() is not None:
            return found
    if rapl.zones(root):
        raise Unsupported(
            "this machine's energy counter is not readable by this user, so no energy can be measured",
            hint="sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj (until the next boot), or run it as root",
        )
    raise Unsupported(
        "this machine has no energy meter that we read (RAPL, INA2xx, INA3221), so no energy can be measured",
        hint="measure on a machine with one, or wire an INA219 or INA226 into the supply (hwmon)",
    )


def measure_energy(
    contender: Contender, *, seconds: float = SECONDS, idle_s: float = IDLE_S, root: Path = sysfs.ROOT
) -> Energy:
    """Energy of one inference: idle, then inference after inference for `seconds`, then idle again.

    Raises Unsupported where there is no meter or it does not resolve the work, and Failed where the runtime dies.
    """
    wired = meter_of(root)
    with steady_runs(contender) as run_for:
        run_for(0.1)  # load, warm caches, and settle
        before = _while(wired, lambda: _wait(idle_s))[1]
        count, work = _while(wired, lambda: run_for(seconds))
        after = _while(wired, lambda: _wait(idle_s))[1]
    idle = [spent(wired.meter, samples) for samples in (before, after)]
    return per_inference(wired.meter, spent(wired.meter, work), idle, count)


def _wait(seconds: float) -> int:
    threading.Event().wait(seconds)
    return 0


def _while(wired: Wired, act: Callable[[], int]) -> tuple[int, list[Sample]]:
    """What `act` gives, and the samples from its beginning to its end."""
    with _sampled(wired) as samples:
        count = act()
    return count, samples


@contextmanager
def _sampled(wired: Wired) -> Iterator[list[Sample]]:
    samples, over = list[Sample](), threading.Event()

    def take() -> None:
        begun = perf_counter()
        value = wired.read()
        samples.append(Sample((begun + perf_counter()) / 2, value))

    def repeat() -> None:
        while not over.wait(1 / _HZ):
            take()

    take()
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()
        take()


def _counter(zones: list[Path], scope: str) -> Wired | None:
    """Several counters as one: each goes round by itself, so they are unrolled before they are added."""
    ranges = [sysfs.number(zone / "max_energy_range_uj") for zone in zones]
    if not zones or any(not value for value in ranges):
        return None
    last: list[int | None] = [None] * len(zones)
    total = 0.0

    def read() -> float | None:
        nonlocal total
        now = [sysfs.number(zone / "energy_uj") for zone in zones]
        if any(value is None or value < 0 for value in now):
            return None
        for place, (value, size) in enumerate(zip(now, ranges, strict=True)):
            before = last[place]
            if value is not None and size and before is not None:
                total += (value - before) % size
            last[place] = value
        return total

    names = " + ".join(rapl.zone_name(zone) for zone in zones)
    return Wired(Meter(f"RAPL {names}", scope, "counter", float(min(value or 0 for value in ranges))), read)


def _psys(root: Path) -> Wired | None:
    zones = [zone for zone in rapl.zones(root) if rapl.zone_name(zone) == "psys"]
    return _counter(zones, "whole platform")


def _packages(root: Path) -> Wired | None:
    """Memory is beside a package's counter, cores are inside it."""
    names = {zone: rapl.zone_name(zone) for zone in rapl.zones(root)}
    zones = [zone for zone, name in names.items() if name.startswith("package") and name.split()[1:] in ([], ["dram"])]
    memory = any(names[zone].endswith("dram") for zone in zones)
    return _counter(zones, "processor package and memory" if memory else "processor package")


def _rails(root: Path) -> Wired | None:
    rails = ina.rails(root)
    whole = [rail for rail in rails if rail.name in WHOLE]
    chosen = whole or list(rails)
    if not chosen:
        return None

    def read() -> float | None:
        values = [ina.power_of(rail).value for rail in chosen]
        numbers = [value for value in values if isinstance(value, float)]
        return sum(numbers) if len(numbers) == len(values) else None

    source = f"INA {' + '.join(rail.name for rail in chosen)}"
    return Wired(Meter(source, "board input" if whole else "measured rails", "power"), read)
