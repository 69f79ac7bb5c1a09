"""The energy of each candidate, where a budget limits it."""

from msgspec.structs import replace

from edgeward.measure import energy_at
from edgeward.measure.place import Place
from edgeward.optimize.trials import Candidate
from edgeward.records.target import Budget


def check(place: Place, budget: Budget) -> None:
    """Raises Unsupported, before any work, where energy is limited and cannot be measured at `place`."""
    if budget.energy_mj is not None:
        energy_at.check_meter(place)


def measured(candidates: list[Candidate], place: Place, budget: Budget) -> list[Candidate]:
    """The candidates with the energy of one inference each, where it is limited. Raises Unsupported where the meter
    cannot resolve one of them."""
    if budget.energy_mj is None:
        return candidates
    spent = energy_at.energies([one.contender for one in candidates], place)
    return [
        one._replace(trial=replace(one.trial, energy=energy)) for one, energy in zip(candidates, spent, strict=True)
    ]
