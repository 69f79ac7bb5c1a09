"""How much one contender differs from another, from generations of fresh processes. Rules only.

A generation gives one ratio of each metric; the generations are what is counted. The interval is the one that belongs
to Wilcoxon's signed-rank test (Hollander, Wolfe and Chicken, "Nonparametric Statistical Methods", 3rd ed., 3.3): the
Hodges-Lehmann estimate with the exact distribution. It asks for no normal distribution, only that a generation errs as
easily up as down: a few generations that other programs spoilt widen it and do not decide. A bootstrap of so few
generations would claim more than they can say.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.measure import bench
from edgeward.measure.fail_if import Condition
from edgeward.measure.generations import Generation
from edgeward.records.bench import Change, Check
from edgeward.records.candidate import Comparison

TIE_MARGIN = 0.02
"""A difference under this is none to speak of: one model against itself differs by as much by where it lies in memory.
Generations average that; what of a machine stays the same through all of them is not averaged."""
_TELLING = 1.25
"""An interval wider than this factor around no difference says nothing, and is called unclear."""
_CONFIDENCE = 0.95
_ANY = math.log(1e6)
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_LEAST_GENERATIONS = 8

COMPARED = ("p50", "p90", "p95", "p99", "throughput", "memory", "load")
"""What every comparison tells, besides what it was asked."""

Verdict = Literal["no difference", "unclear", "faster", "slower", "less", "more"]


def signed_rank_interval(values: NDArray[np.float64], *, confidence: float) -> tuple[float, float, float]:
    """The Hodges-Lehmann estimate of the middle of `values`, and its interval of at least that confidence (two sides).

    Without ends where so few values cannot have an interval of that confidence (five for 90 %, six for 95 %).
    """
    rows, columns = np.triu_indices(len(values))
    averages = np.sort((values[rows] + values[columns]) / 2)
    below = np.cumsum(_signed_rank_chances(len(values)))
    outside = int(np.searchsorted(2 * below, 1 - confidence + 1e-12, side="right")) - 1
    middle = float(np.median(averages))
    if outside < 0:
        return middle, -np.inf, np.inf
    return middle, float(averages[outside]), float(averages[len(averages) - 1 - outside])


def _signed_rank_chances(count: int) -> NDArray[np.float64]:
    """How likely each sum of positive ranks is where up and down are as likely."""
    ways = np.zeros(count * (count + 1) // 2 + 1)
    ways[0] = 1.0
    for rank in range(1, count + 1):
        ways[rank:] += ways[:-rank].copy()
    return ways / 2.0**count


def generations_for(conditions: Sequence[Condition]) -> int:
    """How many generations are needed: with fewer, the surest of the conditions could never be found to hold."""
    doubt = min((1 - one.confidence for one in conditions), default=0.05)
    # One more than could just tell, so that one bad generation does not decide.
    return max(_LEAST_GENERATIONS, math.ceil(-math.log2(doubt) - 1e-9) + 1)


def log_ratios(generations: Sequence[Generation], metric: str) -> NDArray[np.float64]:
    """The logarithm of X over the base, of each generation; X is the first contender, the base the second."""
    return np.array([_log_ratio(one, metric) for one in generations])


def _log_ratio(generation: Generation, metric: str) -> float:
    return float(np.log(_value(generation, 0, metric) / _value(generation, 1, metric)))


def _value(generation: Generation, place: int, metric: str) -> float:
    loaded, times = generation.loaded[place], generation.times_ms[place]
    if metric == "memory":
        return float(loaded.peak_bytes)
    if metric == "load":
        return loaded.load_ms + loaded.first_ms
    if metric == "throughput":
        return 1000 / float(times.mean())
    return float(np.quantile(times, _PERCENTILES[metric]))


def change_of(generations: Sequence[Generation], metric: str) -> Change:
    """X against the base: a ratio above 1 is more of the metric."""
    found = signed_rank_interval(log_ratios(generations, metric), confidence=_CONFIDENCE)
    # So few generations that there is no interval (one, on an emulated machine): any ratio a person could name.
    middle, low, high = (float(np.exp(np.clip(end, -_ANY, _ANY))) for end in found)
    return Change(
        metric=metric, ratio=middle, ratio_ci=(low, high),
        verdict=verdict_of(metric, low, high), generations=len(generations),
    )  # fmt: skip


def verdict_of(metric: str, low: float, high: float) -> Verdict:
    """What the interval of X over the base allows to say of X."""
    if low <= 1 + TIE_MARGIN and high >= 1 - TIE_MARGIN:
        return "no difference" if high <= low * _TELLING else "unclear"
    is_more = low > 1 + TIE_MARGIN
    if metric in ("memory", "energy"):
        return "more" if is_more else "less"
    return "faster" if is_more != (metric != "throughput") else "slower"


def check(generations: Sequence[Generation], condition: Condition) -> Check:
    """Whether the condition holds with its confidence: the bound of one side lies beyond its limit."""
    two_sided = 2 * condition.confidence - 1
    middle, low, high = signed_rank_interval(log_ratios(generations, condition.metric), confidence=two_sided)
    limit = np.log1p(condition.change)
    failed = bool(low > limit) if condition.is_rise() else bool(high < limit)
    bound = float(np.exp(low if condition.is_rise() else high)) - 1
    return Check(
        condition=condition.text, change=float(np.exp(middle)) - 1, bound=bound, limit=condition.change,
        confidence=condition.confidence, failed=failed,
    )  # fmt: skip


class Outcome(NamedTuple):
    """A comparison: the ratio of the medians, every metric's change, and what was asked."""

    comparison: Comparison
    changes: tuple[Change, ...]
    checks: tuple[Check, ...]


def compared(generations: Sequence[Generation], conditions: Sequence[Condition]) -> Outcome:
    """X against the base, from generations of both."""
    changes = tuple(change_of(generations, metric) for metric in COMPARED)
    ratio, (low, high) = changes[0].ratio, changes[0].ratio_ci
    return Outcome(
        Comparison(ratio=ratio, ratio_ci=(low, high), verdict=bench.verdict_of(low, high)), changes,
        tuple(check(generations, condition) for condition in conditions),
    )  # fmt: skip
