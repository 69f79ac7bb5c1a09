"""The range that loses least by clipping and rounding together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.optimize.mse_ranges import best_range


def histogram(values):
    reach = float(np.abs(values).max()) or 1.0
    counts, edges = np.histogram(values, 2048, range=(-reach, reach))
    return counts, edges, float(values.min()), float(values.max())


def loss(values, low, high):
    step = (high - low) / 255
    rounded = np.clip(np.rint(values / step), np.rint(low / step), np.rint(high / step)) * step
    return float(np.square(values - rounded).mean())


def test_one_wild_value_among_many_is_clipped():
    values = np.concatenate([np.random.default_rng(0).normal(size=200000), [14.0]])
    low, high = best_range(*histogram(values))
    assert high < 12
    assert loss(values, low, high) < loss(values, values.min(), values.max())


def test_even_values_keep_their_whole_range():
    low, high = best_range(*histogram(np.random.default_rng(0).uniform(-3, 5, 20000)))
    assert low == pytest.approx(-3, rel=0.05)
    assert high == pytest.approx(5, rel=0.05)


def test_values_behind_a_relu_begin_at_zero():
    low, high = best_range(*histogram(np.maximum(0, np.random.default_rng(0).normal(size=5000))))
    assert low == 0
    assert high > 2


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50))
def test_the_range_holds_zero_and_is_never_wider_than_the_values(values):
    counts, edges, least, largest = histogram(np.array(values))
    low, high = best_range(counts, edges, least, largest)
    assert min(0, least) <= low <= 0 <= high <= max(0, largest)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_ranges_without_end_come_back_as_they_are(bad):
    assert best_range(np.ones(4), np.arange(5.0), 0.0, bad) in ((0.0, bad), (0.0, 0.0))
