"""Percentiles, and intervals that say whether a difference is more than noise. Seeded: same data, same answer."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Z = 1.959964  # the 97.5 % point of the normal distribution
_RESAMPLES = 1000

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


def bootstrap_interval(statistic: Callable[[NDArray[np.int64]], float], count: int, *, seed: int) -> Interval:
    """95 % percentile interval of `statistic`, which is given indices drawn with replacement from 0..count-1.

    Draws for which the statistic is not defined (NaN) are left out.
    """
    generator = np.random.default_rng(seed)
    values = np.array([statistic(generator.integers(0, count, count)) for _ in range(_RESAMPLES)])
    values = values[np.isfinite(values)]
    if values.size == 0:
        return (math.nan, math.nan)
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def median_ratio_interval(first: NDArray[Any], second: NDArray[Any], *, seed: int) -> tuple[float, Interval]:
    """The ratio median(first) / median(second) of interleaved runs, and its 95 % interval.

    Both are rounds × runs: row i of each was taken in the same round. Rounds are drawn together and in blocks
    of neighbours, because a machine that is slow now is slow for a while.
    """
    rounds = len(first)
    block = max(1, round(rounds ** (1 / 3)))
    starts = rounds - block + 1
    generator = np.random.default_rng(seed)
    ratios = np.empty(_RESAMPLES)
    for index in range(_RESAMPLES):
        drawn = generator.integers(0, starts, math.ceil(rounds / block))[:, None] + np.arange(block)
        rows = drawn.reshape(-1)[:rounds]
        ratios[index] = np.median(first[rows]) / np.median(second[rows])
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(np.median(first) / np.median(second)), (float(low), float(high))
