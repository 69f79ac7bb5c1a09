"""When a long run rests, and which setting of threads and streams is named."""

import pytest

from edgeward.measure.steady import is_steady, outcome, slope
from edgeward.measure.sweep import best, settings
from edgeward.records.bench import SteadyWindow, SweepPoint


def windows(p50, heat=None):
    heat = heat or [None] * len(p50)
    return [
        SteadyWindow(at_s=5.0 * (place + 1), p50_ms=ms, temperature_c=degrees)
        for place, (ms, degrees) in enumerate(zip(p50, heat, strict=True))
    ]


def test_a_run_rests_when_neither_latency_nor_heat_moves():
    assert is_steady(windows([1.0] * 6, [60.0] * 6))
    assert not is_steady(windows([1.0] * 5))
    assert not is_steady(windows([1.0 + 0.01 * place for place in range(6)]))
    assert not is_steady(windows([1.0] * 6, [60.0 + place for place in range(6)]))
    assert is_steady(windows([2.0, 1.5, 1.2] + [1.0] * 6))


def test_one_spoilt_window_does_not_bend_the_trend():
    assert slope([0, 5, 10, 15, 20, 25], [1, 1, 9, 1, 1, 1]) == 0
    assert is_steady(windows([1.0, 1.0, 9.0, 1.0, 1.0, 1.0]))


def test_the_outcome_says_what_was_watched_and_whether_time_was_over():
    found = outcome(0.8, windows([0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    assert (found.burst_p50_ms, found.steady_p50_ms, found.is_steady) == (0.8, 1.0, True)
    assert "no temperature sensor" in found.watched
    warm = outcome(0.8, windows([1.0, 1.1, 1.2], [50.0, 51.0, 52.0]))
    assert (warm.is_steady, warm.watched) == (False, "latency and temperature")


@pytest.mark.parametrize(("cpus", "count"), [(1, 1), (2, 4), (4, 8)])
def test_settings_take_at_most_two_threads_for_each_cpu(cpus, count):
    found = settings(cpus)
    assert len(found) == count
    assert all(threads * streams <= 2 * cpus for threads, streams in found)


def point(threads, streams, p50, per_s):
    return SweepPoint(threads=threads, streams=streams, p50_ms=p50, p99_ms=p50, throughput_per_s=per_s)


def test_the_best_setting_is_named_and_threads_that_gain_nothing_are_not():
    found = best([point(1, 1, 10.0, 100), point(2, 1, 5.0, 190), point(1, 2, 10.1, 198), point(2, 2, 9.0, 199)])
    assert (found.fastest.threads, found.fastest.streams) == (2, 1)
    assert (found.most.threads, found.most.streams) == (1, 2)
    tied = best([point(1, 1, 10.0, 100), point(2, 1, 9.9, 101), SweepPoint(threads=4, streams=1, error="it died")])
    assert tied.fastest == tied.most == point(1, 1, 10.0, 100)
    assert best([SweepPoint(threads=1, streams=1, error="it died")]).fastest is None
