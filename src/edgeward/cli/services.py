"""What edgeward runs as services of this machine."""

from pathlib import Path

from edgeward.bundle import peek
from edgeward.bundle.packers.systemd import unit_of
from edgeward.bundle.store import Store
from edgeward.kit import systemctl
from edgeward.kit.errors import EdgewardError, WrongInput
from edgeward.records.base import Record


class ServiceState(Record):
    """One service. `state` is systemd's ActiveState ("active", "failed", "inactive"), `since` when it came to that,
    `says` the service's own words, `restarts` how often systemd started it anew by itself."""

    name: str
    version: str
    digest: str
    unit: str
    state: str
    since: str
    says: str
    restarts: int


def found(store: Store) -> list[ServiceState]:
    """Every service that has a bundle here, by name."""
    return [_state(store, name) for name in store.services()]


def unit_named(store: Store, name: str) -> str:
    """The unit of the service `name`. Raises WrongInput where there is none."""
    if name not in store.services():
        there = ", ".join(store.services()) or "no service"
        raise WrongInput(f"there is no service {name!r} of edgeward here; there is {there}")
    return unit_of(name)


def _state(store: Store, name: str) -> ServiceState:
    unit = unit_of(name)
    properties = ("ActiveState", "StateChangeTimestamp", "StatusText", "NRestarts")
    state, since, says, restarts = (systemctl.show(unit, one) for one in properties)
    return ServiceState(
        name=name, version=_version(store.link_of(name)), digest=store.current(name) or "", unit=unit, state=state,
        since=since, says=says, restarts=int(restarts or 0),
    )  # fmt: skip


def _version(folder: Path) -> str:
    try:
        return peek(folder).manifest.version
    except EdgewardError:
        return "damaged"
