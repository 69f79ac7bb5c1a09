"""MLPerf's scenarios: early stopping against LoadGen's own figures, the search against queueing theory."""

import math

import numpy as np
import pytest

from edgeward.kit.errors import GateMissed
from edgeward.measure.scenario_run import Asked, Ran, measured
from edgeward.measure.scenarios import RULES, Trial, arrivals, early_stopping, keeps, late_chance, missing, next_rate


def least_queries(late, percentile):
    """LoadGen's h + t: the fewest queries among which `late` late ones are few enough."""
    return next(n for n in range(late + 1, 100_000) if late_chance(late, n, percentile) < 0.01)


def test_the_fewest_queries_are_those_of_loadgen():
    assert least_queries(0, 0.99) == 459
    assert least_queries(1, 0.90) == 64
    assert least_queries(1, 0.99) == 662


def test_the_chance_is_the_binomial_sum():
    for late, count, percentile in ((0, 10, 0.9), (3, 40, 0.9), (12, 1000, 0.99)):
        wanted = sum(
            math.comb(count, k) * (1 - percentile) ** k * percentile ** (count - k) for k in range(late + 1)
        )  # fmt: skip
        assert late_chance(late, count, percentile) == pytest.approx(wanted, rel=1e-9)


def test_too_few_queries_have_no_estimate_and_just_enough_give_the_slowest():
    times = np.arange(1.0, 64.0)
    assert early_stopping(times, 0.9).value is None
    assert early_stopping(np.append(times, 64.0), 0.9) == (64.0, 0)
    assert early_stopping(np.array([]), 0.9).value is None


def test_the_estimate_is_at_least_the_percentile_in_99_of_100_runs():
    generator = np.random.default_rng(2)
    truth = -math.log(0.1)  # p90 of the exponential distribution
    held = [early_stopping(generator.exponential(size=400), 0.9).value >= truth for _ in range(3000)]
    assert np.mean(held) >= 0.985


def test_arrivals_are_a_poisson_process():
    moments = arrivals(200.0, 500.0, np.random.default_rng(3))
    gaps = np.diff(moments)
    assert len(moments) == pytest.approx(100_000, rel=0.02)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.02)
    counts = np.bincount(moments.astype(int), minlength=500)
    assert counts.var() == pytest.approx(counts.mean(), rel=0.2)


class SimulatedServer:
    """One queue, one server, a fixed service time: M/D/1 under Poisson arrivals."""

    def __init__(self, service_ms):
        self.service_ms = service_ms

    def __call__(self, job):
        if not job.rate_per_s:
            query = job.runs * self.service_ms * job.batch
            count = max(job.least_queries, int(job.seconds * 1000 / query))
            return Ran(np.full(count, query), count * query / 1000)
        moments = arrivals(job.rate_per_s, job.seconds, np.random.default_rng(job.seed)) * 1000
        free, latencies = 0.0, []
        for moment in moments:
            free = max(free, moment) + self.service_ms
            latencies.append(free - moment)
        return Ran(np.array(latencies), job.seconds)


def waits_at_most(wait, load):
    """M/D/1, service time 1: the share of waits up to `wait` (Erlang, 1909)."""
    whole = int(wait)
    return (1 - load) * sum(
        (-load * (wait - k)) ** k / math.factorial(k) * math.exp(load * (wait - k)) for k in range(whole + 1)
    )


def rate_by_theory(service_ms, bound_ms):
    """The highest rate at which 99 % wait no longer than the bound leaves, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(50):
        load = (low + high) / 2
        low, high = (load, high) if waits_at_most(bound_ms / service_ms - 1, load) >= 0.99 else (low, load)
    return low * 1000 / service_ms


def serve(service_ms, bound_ms, seconds=600.0, name="server"):
    return measured(SimulatedServer(service_ms), Asked(name, seconds, bound_ms, 1), lambda *_: None)


@pytest.mark.parametrize(("service_ms", "bound_ms"), [(1.0, 10.0), (2.0, 9.0), (5.0, 12.0)])
def test_the_rate_found_is_that_of_queueing_theory(service_ms, bound_ms):
    found = serve(service_ms, bound_ms)
    theory = rate_by_theory(service_ms, bound_ms)
    # MLPerf's rule wants 99 % confidence, so what is found lies a little below (the more, the flatter the tail).
    assert 0.8 * theory <= found.rate_per_s <= 1.02 * theory
    assert found.percentile_ms <= bound_ms


def test_a_simulated_queue_has_the_tail_of_the_theory():
    ran = SimulatedServer(1.0)(type("Job", (), {"rate_per_s": 800.0, "seconds": 400.0, "seed": 5}))
    for wait in (0.5, 2.5, 6.0):
        assert np.mean(ran.latencies_ms - 1.0 <= wait) == pytest.approx(waits_at_most(wait, 0.8), abs=0.01)


def test_a_bound_below_the_service_time_is_a_missed_gate():
    with pytest.raises(GateMissed, match="even one request a second"):
        serve(5.0, 4.9)


def test_the_search_ends_and_brackets():
    trials = []
    while (rate := next_rate(trials, 1000.0)) is not None:
        trials.append(Trial(rate, rate <= 437))
    kept = max(trial.rate_per_s for trial in trials if trial.kept)
    assert 437 / 1.03 <= kept <= 437
    assert len(trials) <= 14


def test_streams_and_offline_have_their_metric():
    single = serve(2.0, 0, name="single-stream", seconds=5.0)
    assert (single.percentile, single.percentile_ms, single.estimate_ms) == (0.90, 2.0, 2.0)
    multi = serve(2.0, 0, name="multi-stream", seconds=5.0)
    assert (multi.samples_per_query, multi.percentile_ms, multi.queries) == (8, 16.0, 662)
    offline = serve(2.0, 0, name="offline", seconds=5.0)
    assert offline.samples_per_s == pytest.approx(500)


def test_what_mlperf_asks_and_a_quick_run_has_not_is_told():
    assert missing("single-stream", 10_000, 5.0) == ("5 s of the 600 s at least",)
    assert missing("offline", 2_000, 600.0) == ("2,000 of the 24,576 samples at least",)
    assert all(missing(name, 10**6, 601.0) == () for name in RULES)


def test_late_queries_are_counted_with_confidence():
    assert keeps(np.ones(459), 2.0, 0.99)
    assert not keeps(np.ones(458), 2.0, 0.99)
    assert not keeps(np.append(np.ones(458), 3.0), 2.0, 0.99)
