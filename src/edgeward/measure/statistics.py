"""Percentiles, and intervals that say whether a difference is more than noise. Seeded: same data, same answer."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

_Z = 1.959964  # the 97.5 % point of the normal distribution
_RESAMPLES = 1000
_DRAWS_AT_ONCE = 2_000_000
"""Resamples are drawn in groups of so many samples in all: 16 MB a group, however large the set is."""
_UNSEEN = 3.0
_LEAST_DISTANCE = 0.01
"""A drop nearer to the gate than this share of its interval would take ten thousand times the samples."""

Interval = tuple[float, float]


def quantiles(values: NDArray[np.float64], shares: tuple[float, ...]) -> tuple[float, ...]:
    """The values below which these shares of `values` lie."""
    return tuple(float(value) for value in np.quantile(values, shares))


def share_interval(hits: NDArray[np.bool_]) -> Interval:
    """95 % interval of the share of true values: Wilson's score interval, which stays inside 0..1."""
    count, share = len(hits), float(np.mean(hits))
    middle = share + _Z**2 / (2 * count)
    reach = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    scale = 1 + _Z**2 / count
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def paired_share_interval(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Interval:
    """95 % interval of share(first) - share(second) where both were seen on the same samples.

    The adjusted Wald interval of Agresti and Min, "Simple improved confidence intervals for comparing matched
    proportions", Statistics in Medicine 24 (2005): half a case is added to each cell, so that no disagreement
    at all in few samples is not taken for certainty.
    """
    only_first = float(np.sum(first & ~second)) + 0.5
    only_second = float(np.sum(~first & second)) + 0.5
    count = len(first) + 2
    difference = (only_first - only_second) / count
    deviation = math.sqrt(only_first + only_second - (only_first - only_second) ** 2 / count) / count
    return difference - _Z * deviation, difference + _Z * deviation


def exact_paired_p(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """How likely at least so uneven a split of the disagreements is where neither is better: McNemar's exact test.

    Two-sided, by the binomial distribution, so that it holds for few disagreements too; 1 where there is none.
    """
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(~first & second))
    count, fewer = only_first + only_second, min(only_first, only_second)
    logs = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) - count * math.log(2)
        for k in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(math.exp(log) for log in logs))


Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Resamples × samples, how often each sample was drawn → one number per resample, NaN where it is not defined."""


def bootstrap_interval(statistic: Statistic, count: int, *, seed: int, resamples: int = _RESAMPLES) -> Interval:
    """95 % percentile interval of `statistic` over `count` samples drawn with replacement.

    Draws for which the statistic is not defined (NaN) are left out.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, _DRAWS_AT_ONCE // count)
    parts = [
        statistic(_drawn(generator, min(rows, resamples - start), count)) for start in range(0, resamples, rows)
    ]  # fmt: skip
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return (math.nan, math.nan)
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _drawn(generator: np.random.Generator, rows: int, count: int) -> NDArray[np.float64]:
    places = generator.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
    return np.bincount(places.reshape(-1), minlength=rows * count).reshape(rows, count).astype(np.float64)


class Support(NamedTuple):
    """Whether a set of samples can tell on which side of a gate a drop lies.

    `samples_needed` is about how many could, None where the drop lies on the gate itself; `reason` is one sentence.
    """

    verdict: Literal["kept", "missed", "too few samples"]
    half_width: float
    samples_needed: int | None
    reason: str


def gate_support(drop: float, interval: Interval, count: int, *, max_drop: float) -> Support:
    """What `count` samples say of the gate `max_drop`. An interval narrows with the root of the sample count.

    An interval without width comes of samples that all agree; what is rarer than one in a third of them may still
    have been missed (the rule of three).
    """
    low, high = (drop - _UNSEEN / count, drop + _UNSEEN / count) if interval[0] == interval[1] else interval
    half_width = (high - low) / 2
    if not all(math.isfinite(number) for number in (drop, low, high)):
        return Support("too few samples", math.inf, None, f"{count} samples give no interval of the drop at all")
    span = f"the drop is {drop:.4f}, its 95 % interval {low:.4f} to {high:.4f}"
    if high <= max_drop:
        return Support("kept", half_width, count, f"{span}: within {max_drop:g}")
    if low > max_drop:
        return Support("missed", half_width, count, f"{span}: beyond {max_drop:g}")
    reach = high - drop if drop <= max_drop else drop - low
    distance = abs(max_drop - drop)
    needed = None if distance <= _LEAST_DISTANCE * reach else max(count + 1, math.ceil(count * (reach / distance) ** 2))
    many = "no number of samples is likely to" if needed is None else f"about {needed} would"
    return Support(
        "too few samples", half_width, needed,
        f"{span}: {count} samples are too few to tell whether it stays within {max_drop:g}; {many}",
    )  # fmt: skip


def median_ratio_interval(first: NDArray[Any], second: NDArray[Any], *, seed: int) -> tuple[float, Interval]:
    """The ratio median(first) / median(second) of interleaved runs, and its 95 % interval.

    Both are rounds × runs: row i of each was taken in the same round. Rounds are drawn together and in blocks
    of neighbours, because a machine that is slow now is slow for a while.
    """
    rounds = len(first)
    block = max(1, round(rounds ** (1 / 3)))
    starts = rounds - block + 1
    drawn = np.random.default_rng(seed).integers(0, starts, (_RESAMPLES, math.ceil(rounds / block), 1))
    rows = (drawn + np.arange(block)).reshape(_RESAMPLES, -1)[:, :rounds]
    at_once = max(1, _DRAWS_AT_ONCE // first.size)
    ratios = []
    for start in range(0, _RESAMPLES, at_once):
        part = rows[start : start + at_once]
        places = part + np.arange(len(part))[:, None] * rounds
        counts = np.bincount(places.reshape(-1), minlength=len(part) * rounds).reshape(len(part), rounds)
        ratios.append(_medians(first, counts) / _medians(second, counts))
    low, high = np.quantile(np.concatenate(ratios), (0.025, 0.975))
    return float(np.median(first) / np.median(second)), (float(low), float(high))


def _medians(times: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each resample, the median of the runs of its rounds: `counts` says how often each round was drawn in it."""
    flat = times.reshape(-1)
    order = np.argsort(flat)
    # How many of the drawn runs are at most as long as each, from the shortest on.
    reached = np.cumsum(counts.astype(np.int32)[:, order // times.shape[1]], axis=1, dtype=np.int32)
    lower, upper = ((reached > place).argmax(axis=1) for place in ((flat.size - 1) // 2, flat.size // 2))
    return np.asarray((flat[order[lower]] + flat[order[upper]]) / 2, np.float64)
