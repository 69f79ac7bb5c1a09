"""Intervals that hold what they promise."""

import numpy as np

from edgeward.measure.statistics import bootstrap_interval, median_ratio_interval, paired_share_interval


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
        return bootstrap_interval(lambda rows: float(values[rows].mean()), 50, seed=seed)

    assert interval(1) == interval(1)
    assert interval(1) != interval(2)
