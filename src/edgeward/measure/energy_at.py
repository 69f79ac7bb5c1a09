"""The energy of contenders at a place, and whether it can be had there."""

from pathlib import Path

from msgspec.structs import replace

from edgeward.kit.errors import Unsupported
from edgeward.measure.jobs import Contender
from edgeward.measure.metering import measure_energy, meter_of
from edgeward.measure.place import Here, Place
from edgeward.records.candidate import BenchMeasurement, Energy


def check_meter(place: Place) -> Path:
    """The root below which its meter is. Raises Unsupported, before any work, where energy cannot be measured there."""
    if not isinstance(place, Here):
        raise Unsupported(
            "energy is measured on the machine itself, not over ssh yet", hint="run the same command on the device"
        )
    meter_of(place.root)
    return place.root


def energy_of(contender: Contender, place: Place) -> Energy:
    """Of one inference, alone beside the meter.

    Raises Unsupported where there is no meter or it cannot resolve the model, Failed where the runtime dies.
    """
    return measure_energy(contender, root=check_meter(place))


def with_energy(found: BenchMeasurement, energy: Energy) -> BenchMeasurement:
    return replace(found, energy=energy, energy_mj=energy.gross_mj)
