"""The arithmetic of MLPerf Inference's four scenarios. Rules only.

Definitions: "MLPerf Inference Rules" (mlcommons/inference_policies, inference_rules.adoc, "Scenarios") and LoadGen
(mlcommons/inference, loadgen/). What follows them is MLPerf's method; a result of MLPerf it is not: that takes their
models, their data, their LoadGen and a review.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Name = Literal["single-stream", "multi-stream", "server", "offline"]
NAMES: tuple[Name, ...] = ("single-stream", "multi-stream", "server", "offline")
CONFIDENCE = 0.99
"""LoadGen's, with a tolerance of 0 (loadgen/results.cc)."""
_PRECISE = 1.03
"""The search for a rate ends when the lowest that missed is so near to the highest that was kept."""
_MOST_TRIALS = 14


class Rule(NamedTuple):
    """What MLPerf asks of a scenario. `percentile` None: its metric is throughput."""

    percentile: float | None
    samples_per_query: int
    least_s: float
    least_queries: int
    metric: str


RULES: dict[Name, Rule] = {
    "single-stream": Rule(0.90, 1, 600, 64, "90th percentile latency"),
    "multi-stream": Rule(0.99, 8, 600, 662, "99th percentile latency of queries of 8 samples"),
    "server": Rule(0.99, 1, 600, 459, "Poisson arrivals a second with the 99th percentile under the bound"),
    "offline": Rule(None, 24_576, 600, 1, "samples a second"),
}


class Estimate(NamedTuple):
    """A percentile that holds with 99 % confidence. `discarded` are the slower queries above it; None: too few."""

    value: float | None
    discarded: int


def late_chance(late: int, count: int, percentile: float) -> float:
    """How likely at most `late` of `count` queries are late where a share 1 - percentile of all is: the binomial
    distribution."""
    return float(_late_chances(late, count, percentile)[-1])


def _late_chances(most: int, count: int, percentile: float) -> NDArray[np.float64]:
    """The same for 0..most late ones."""
    k = np.arange(min(most, count - 1), dtype=np.float64)
    odds = math.log((1 - percentile) / percentile)
    steps = np.log((count - k) / (k + 1)) + odds
    logs = count * math.log(percentile) + np.concatenate([[0.0], np.cumsum(steps)])
    chances: NDArray[np.float64] = np.minimum(1.0, np.cumsum(np.exp(logs)))
    return chances


def early_stopping(latencies: NDArray[np.float64], percentile: float) -> Estimate:
    """MLPerf's early-stopping estimate of a percentile.

    The source is loadgen/early_stopping.cc and loadgen/results.cc of mlcommons/inference. With t late queries among
    n = h + t, h is enough when the odds of at most t late ones, BetaRegularized[p; h, t + 1], are under 1 - c, with
    p the percentile, c = 0.99 and tolerance 0. That regularised beta function is the binomial distribution's sum
    for at most t of n with chance 1 - p, which is what is computed here. The estimate is the t-th highest latency
    for the largest such t, at least 1; so 64 queries are needed for p90, 662 for p99.
    """
    count = len(latencies)
    if count == 0:
        return Estimate(None, 0)
    chances = _late_chances(math.ceil(count * (1 - percentile)) + 1, count, percentile)
    late = int(np.searchsorted(chances, 1 - CONFIDENCE, side="left")) - 1
    if late < 1:
        return Estimate(None, 0)
    return Estimate(float(np.sort(latencies)[count - late]), late - 1)


def keeps(latencies: NDArray[np.float64], bound: float, percentile: float) -> bool:
    """Whether the percentile is under `bound` with 99 % confidence: LoadGen's early stopping in the server scenario."""
    late = int(np.sum(latencies > bound))
    return len(latencies) > late and late_chance(late, len(latencies), percentile) < 1 - CONFIDENCE


def arrivals(rate_per_s: float, seconds: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Moments of a Poisson process from 0 to `seconds`."""
    count = int(rate_per_s * seconds + 10 * math.sqrt(rate_per_s * seconds) + 20)
    moments = np.cumsum(generator.exponential(1 / rate_per_s, count))
    within: NDArray[np.float64] = moments[moments < seconds]
    return within


class Trial(NamedTuple):
    """A rate that was tried, and whether the bound was kept."""

    rate_per_s: float
    kept: bool


def next_rate(trials: Sequence[Trial], capacity_per_s: float) -> float | None:
    """The rate to try next, None when it is known well enough. Nothing can be served faster than the capacity."""
    low = max((trial.rate_per_s for trial in trials if trial.kept), default=None)
    high = min((trial.rate_per_s for trial in trials if not trial.kept), default=None)
    if len(trials) >= _MOST_TRIALS:
        return None
    if not trials:
        return capacity_per_s / 2
    if high is None:
        return None if low is not None and low >= capacity_per_s else min(capacity_per_s, (low or 1.0) * 1.4)
    if low is None:
        return high / 2
    return None if high / low <= _PRECISE else math.sqrt(low * high)


def missing(name: Name, queries: int, seconds: float) -> tuple[str, ...]:
    """What MLPerf asks of a run and this one has not."""
    rule, found = RULES[name], []
    if seconds < rule.least_s:
        found.append(f"{seconds:.0f} s of the {rule.least_s:.0f} s at least")
    least = rule.samples_per_query if name == "offline" else rule.least_queries
    if queries < least:
        word = "samples" if name == "offline" else "queries"
        found.append(f"{queries:,} of the {least:,} {word} at least")
    return tuple(found)
