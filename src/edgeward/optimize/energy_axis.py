"""The energy of each candidate, where a budget limits it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeward.kit.errors import EdgewardError
from edgeward.measure import energy_at
from edgeward.measure.place import Place, PlaceLost
from edgeward.optimize import trials
from edgeward.optimize.trials import Candidate
from edgeward.records.candidate import Recipe, Trial
from edgeward.records.target import Budget


class Metered(NamedTuple):
    """The candidates whose energy is known, their times in the race, and the trials that were left behind."""

    candidates: list[Candidate]
    times: list[NDArray[np.float64]]
    failures: list[Trial]


def check(place: Place, budget: Budget) -> None:
    """Raises Unsupported, before any work, where energy is limited and cannot be measured at `place`."""
    if budget.energy_mj is not None:
        energy_at.check_meter(place)


def measured(candidates: Sequence[Candidate], times: Sequence[NDArray[Any]], place: Place, budget: Budget) -> Metered:
    """The candidates with the energy of one inference each, where it is limited: one that the meter cannot resolve may
    take any, and is a failed trial. Raises what the meter says where that is the model as given."""
    found = Metered([], [], [])
    for candidate, mine in zip(candidates, times, strict=True):
        try:
            energy = None if budget.energy_mj is None else energy_at.energy_of(candidate.contender, place)
        except PlaceLost:
            raise
        except EdgewardError as error:
            if not found.candidates:
                raise
            trial = candidate.trial
            recipe = Recipe(name=trial.recipe, steps=trial.steps, runtime=trial.runtime)
            reason = f"its energy cannot be told: {error.message}"
            found.failures.append(trials.failed(recipe, reason, candidate.alone_ms))
            continue
        found.candidates.append(candidate._replace(trial=replace(candidate.trial, energy=energy)))
        found.times.append(mine)
    return found
