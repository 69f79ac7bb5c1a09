"""Trials → the choice and its reason. Rules only."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.measure.bench import compare
from edgeward.measure.limits import excess
from edgeward.optimize.propose import AS_GIVEN
from edgeward.records.candidate import Trial, Violation

_SAME_SIZE = 1.05
"""Files, and updates, larger than the smallest by less than this count as equally small."""

_NOT_SLOWER = 0.99
"""A smaller file is no reason to be slower than the model as given, noise or not."""

CLOSE = 0.98
"""Nor to be slower than the fastest by more than what counts as no difference: noise may hide a tenth."""

PERHAPS = 0.9
"""In a race of many, where noise hides so much."""


class Choice(NamedTuple):
    """The chosen trial (None when nothing kept the limits), the nearest miss, and why."""

    chosen: Trial | None
    nearest: str | None
    reason: str


def choose(trials: Sequence[Trial], tied_with_fastest: Mapping[str, bool], *, gate: str) -> Choice:
    """The fastest trial that keeps every limit; among those tied with it, the most accurate of the smallest files,
    or, where a deployed version is to be replaced, of the smallest updates.

    `tied_with_fastest` says of each trial that kept the limits
    whether its latency cannot be told from that of the fastest.
    """
    measured = [trial for trial in trials if trial.failure is None]
    kept = [trial for trial in measured if not trial.violations]
    if not kept:
        return _nothing_kept(measured, gate)
    tied = [trial for trial in kept if tied_with_fastest.get(trial.recipe, False)] or kept
    smallest = min(_weight(trial) for trial in tied)
    small = [trial for trial in tied if _weight(trial) <= smallest * _SAME_SIZE]
    best = min(small, key=lambda trial: (trial.quality_drop or 0.0, trial.size_bytes or 0))
    return Choice(best, None, _why(best, tied, len(kept), len(trials), gate))


def _weight(trial: Trial) -> int:
    """What has to be stored, or sent to replace the deployed version."""
    return (trial.size_bytes or 0) if trial.delta_bytes is None else trial.delta_bytes


def close_to_fastest(
    trials: Sequence[Trial], times: Sequence[NDArray[np.float64]], *, least: float, seed: int
) -> list[int]:
    """Of the trials that kept their limits, by place: those whose latency cannot be told from the fastest's, by what
    was seen are at `least` so many times as fast, and were no slower than the model as given."""
    kept = [index for index, trial in enumerate(trials) if not trial.violations]
    if not kept:
        return []
    fastest = times[min(kept, key=lambda index: float(np.median(times[index])))]
    compared = {index: compare(fastest, times[index], seed=seed) for index in kept}
    return [
        index for index, one in compared.items()
        if one.verdict == "tie" and one.ratio >= least and is_no_slower(trials[index])
    ]  # fmt: skip


def is_no_slower(trial: Trial) -> bool:
    """Than the model as given, by the figures of the race."""
    return trial.speedup_p50 is None or trial.speedup_p50 >= _NOT_SLOWER


def pareto(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Recipes that no other beats in latency, quality, size and (where metered) energy at once."""
    measured = [trial for trial in trials if trial.failure is None and trial.latency_ms is not None]
    return tuple(
        trial.recipe for trial in measured if not any(_beats(other, trial) for other in measured if other is not trial)
    )


def _beats(one: Trial, other: Trial) -> bool:
    mine, theirs = _figures(one), _figures(other)
    return all(m <= t for m, t in zip(mine, theirs, strict=True)) and mine != theirs


def _figures(trial: Trial) -> tuple[float, ...]:
    latency = trial.latency_ms.p50 if trial.latency_ms else float("inf")
    energy = trial.energy.gross_mj if trial.energy else 0.0
    return latency, trial.quality_drop or 0.0, float(trial.size_bytes or 0), energy


def _why(best: Trial, tied: Sequence[Trial], kept: int, count: int, gate: str) -> str:
    if best.recipe == AS_GIVEN:
        return (
            f"leave it as it is: none of {count - 1} candidates that kept {gate} is faster here than the model as given"
        )
    others = len(tied) - 1
    small = "smallest" if best.delta_bytes is None else "smallest updates"
    tie = f", and the most accurate of the {small} of {len(tied)} whose latency cannot be told apart" if others else ""
    return f"{best.recipe} is the fastest of {kept} that kept {gate}{tie}; {count} were tried"


def _nothing_kept(measured: Sequence[Trial], gate: str) -> Choice:
    if not measured:
        return Choice(None, None, "no candidate ran")
    nearest = min(measured, key=lambda trial: excess(trial.violations))
    told = ", ".join(_told(violation) for violation in nearest.violations)
    return Choice(None, nearest.recipe, f"no candidate kept {gate}; the nearest is {nearest.recipe}: {told}")


def _told(violation: Violation) -> str:
    name = violation.limit.replace("_", " ")
    if violation.limit.endswith("_bytes"):
        return f"{name.removesuffix(' bytes')} {violation.measured:.0f} B over {violation.allowed:.0f} B"
    if violation.limit.endswith("_ms"):
        words = name.removesuffix(" ms")
        if words.startswith("latency "):
            words = f"{words.removeprefix('latency ')} latency"
        return f"{words} {violation.measured:.3g} ms over {violation.allowed:.3g} ms"
    if violation.limit.endswith("_mj"):
        return f"{name.removesuffix(' mj')} {violation.measured:.3g} mJ over {violation.allowed:.3g} mJ"
    return f"{name} {violation.measured:.4f} over {violation.allowed:g}"
