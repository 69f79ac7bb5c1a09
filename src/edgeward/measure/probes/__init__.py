"""The probes, one file each: what the machine's sensors say, or why they do not."""

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from msgspec.structs import replace

from edgeward.kit import plugins
from edgeward.kit.errors import EdgewardError
from edgeward.measure import sysfs
from edgeward.measure.probes.base import Probe, Reading

__all__ = ["Probe", "Reading", "load", "names", "readings"]


def names() -> tuple[str, ...]:
    """Every probe there is."""
    return plugins.names(__name__)


def load(name: str) -> Probe:
    """The probe `name`. Raises WrongInput for an unknown one."""
    return cast(Probe, plugins.load(__name__, name))


def readings(root: Path = sysfs.ROOT, only: Iterable[str] | None = None) -> tuple[Reading, ...]:
    """What every probe (or those named in `only`) reads below `root`. Never raises: what fails says so in its place."""
    return tuple(one for name in (names() if only is None else only) for one in _of(name, root))


def _of(name: str, root: Path) -> list[Reading]:
    try:
        return [replace(one, probe=name) for one in load(name).read(root)]
    except EdgewardError as error:
        fault = error.message
    except Exception as error:  # noqa: BLE001 - a probe of somebody else, or a driver nobody has seen, ends no run
        fault = f"{type(error).__name__}: {error}"
    return [Reading(name=name, quantity="", unit="", value=None, path="", fault=f"not readable: {fault}", probe=name)]
