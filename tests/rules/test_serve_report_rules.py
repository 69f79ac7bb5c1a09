"""The intervals and the list of promises of bench/serve_vs_peers."""

import numpy as np
import pytest
from bench.serve_vs_peers.report import Check, Part, mean, mean_ratio, resampled, slope, to_markdown


def test_a_ratio_over_rounds_is_geometric_and_its_interval_is_students() -> None:
    ratio, (low, high) = mean_ratio([2.0, 8.0, 4.0], [1.0, 1.0, 1.0])
    assert ratio == pytest.approx(4)
    reach = 4.3027 * np.log(2) / np.sqrt(3)  # two degrees of freedom; the logs are one ln 2 apart
    assert (low, high) == pytest.approx((4 * np.exp(-reach), 4 * np.exp(reach)), rel=1e-4)


def test_one_round_says_nothing_of_its_spread() -> None:
    assert mean([3.0]) == (3.0, (-np.inf, np.inf))


def test_a_slope_is_found_and_none_is_not() -> None:
    x = np.arange(200.0)
    noise = np.random.default_rng(0).normal(0, 5, 200)
    gain, (low, high) = slope(x, 0.5 * x + noise)
    assert low < 0.5 < high
    assert gain == pytest.approx(0.5, abs=0.05)
    _, (low, high) = slope(x, noise)
    assert low < 0 < high


def test_a_difference_of_paired_runs_has_an_interval_around_it() -> None:
    base = np.random.default_rng(0).normal(100, 10, 500)
    value, (low, high) = resampled(base + 7, base, lambda a, b: float(np.median(a) - np.median(b)))
    assert value == pytest.approx(7)
    assert low <= value <= high


def test_promises_stand_at_the_end_with_their_figures() -> None:
    parts = [
        Part("HTTP", "some words", [Check("as fast", True, "1.1")]),
        Part("Soak", "others", [Check("flat", False, "3 MB")]),
    ]
    assert to_markdown(parts).splitlines()[-2:] == ["- kept: as fast: 1.1", "- **not kept**: flat: 3 MB"]
