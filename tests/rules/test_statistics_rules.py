"""Intervals that hold what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from edgeward.measure.statistics import (
    bootstrap_interval,
    exact_paired_p,
    gate_support,
    median_ratio_interval,
    paired_share_interval,
)


def test_the_paired_interval_holds_the_true_difference_about_95_times_in_100():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        first = generator.random(300) < 0.8
        flipped = generator.random(300) < 0.05
        second = np.where(flipped, ~first, first)
        truth = 0.8 - (0.8 * 0.95 + 0.2 * 0.05)
        low, high = paired_share_interval(first, second)
        held += low <= truth <= high
    assert held >= 930


def test_no_disagreement_in_few_samples_is_not_certainty():
    same = np.ones(20, bool)
    low, high = paired_share_interval(same, same)
    assert low < -0.05
    assert high > 0.05


def test_a_run_against_itself_is_a_ratio_of_one():
    times = np.random.default_rng(1).gamma(4, 0.1, (300, 5))
    ratio, (low, high) = median_ratio_interval(times, times, seed=0)
    assert ratio == low == high == 1.0


def test_a_tenth_slower_is_seen_through_noise():
    generator = np.random.default_rng(2)
    drift = 1 + 0.5 * generator.random((400, 1))
    base, slow = drift * generator.gamma(40, 0.01, (400, 5)), 1.1 * drift * generator.gamma(40, 0.01, (400, 5))
    _, (_, high) = median_ratio_interval(base, slow, seed=0)
    assert high < 1


def test_the_bootstrap_is_seeded():
    values = np.random.default_rng(3).normal(size=50)

    def interval(seed: int) -> tuple[float, float]:
        return bootstrap_interval(lambda weights: weights @ values / 50, 50, seed=seed)

    assert interval(1) == interval(1)
    assert interval(1) != interval(2)


def test_the_exact_paired_test_agrees_with_the_binomial_one():
    first, second = np.zeros((2, 60), bool)
    first[:12], second[12:15] = True, True
    assert exact_paired_p(first, second) == pytest.approx(binomtest(3, 15).pvalue)
    assert exact_paired_p(first, first) == 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_the_exact_paired_test_is_a_probability_and_knows_no_side(pairs):
    first, second = np.array(pairs).T
    assert 0 < exact_paired_p(first, second) <= 1
    assert exact_paired_p(first, second) == exact_paired_p(second, first)


@pytest.mark.parametrize(
    ("drop", "interval", "verdict", "needed"),
    [
        (0.002, (-0.004, 0.008), "kept", 500),
        (0.03, (0.02, 0.04), "missed", 500),
        (0.005, (-0.005, 0.015), "too few samples", 2000),
        (0.02, (0.005, 0.035), "too few samples", 1125),
        (0.01, (0.0, 0.02), "too few samples", None),
        (0.0, (0.0, 0.0), "kept", 500),
    ],
)
def test_a_gate_is_kept_or_missed_or_not_to_be_told(drop, interval, verdict, needed):
    found = gate_support(drop, interval, 500, max_drop=0.01)
    assert (found.verdict, found.samples_needed) == (verdict, needed)
    assert found.half_width == pytest.approx((interval[1] - interval[0]) / 2 or 3 / 500)


def test_a_hundred_samples_that_all_agree_are_no_proof():
    found = gate_support(0.0, (0.0, 0.0), 100, max_drop=0.01)
    assert found.verdict == "too few samples"
    assert 300 < found.samples_needed <= 900


def test_a_drop_without_an_interval_supports_nothing():
    nothing = (float("nan"), float("nan"))
    assert gate_support(nothing[0], nothing, 3, max_drop=0.01).verdict == "too few samples"
    assert gate_support(0.0, nothing, 3000, max_drop=0.01).verdict == "too few samples"


@given(st.floats(-0.2, 0.2), st.floats(0.001, 0.2), st.floats(0.001, 0.2), st.floats(0, 0.1), st.integers(2, 10**6))
def test_more_samples_are_wanted_only_where_the_gate_lies_inside_the_interval(drop, below, above, gate, count):
    found = gate_support(drop, (drop - below, drop + above), count, max_drop=gate)
    assert (found.verdict == "too few samples") == (drop - below <= gate < drop + above)
    assert found.samples_needed is None or found.samples_needed >= count
