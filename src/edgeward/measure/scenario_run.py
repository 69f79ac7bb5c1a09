"""Runs a model under one of MLPerf's scenarios, in a process of its own; the search for a rate among them."""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeward.kit.errors import EdgewardError, GateMissed
from edgeward.kit.process import Partner
from edgeward.measure.bench import WORKERS, answer_of
from edgeward.measure.jobs import Contender, Drive, Driven, Load, Ready, encode, unpacked
from edgeward.measure.scenarios import RULES, Name, Trial, early_stopping, keeps, missing, next_rate
from edgeward.records.bench import RateTried, ScenarioResult

_LOAD_LIMIT_S = 120
_BATCHES = (1, 8, 32)
_CONFIRMATIONS = 8
_STEP_DOWN = 0.97
_PROBE_S = 2.0
_PROBE_QUERIES = 1500
_LONGEST_PROBE_S = 90.0


class Asked(NamedTuple):
    """A scenario, how long its run is at least, and the bound of the server's latency."""

    name: Name
    seconds: float
    bound_ms: float
    seed: int


class Ran(NamedTuple):
    """The latency of each query in milliseconds, and how long they took."""

    latencies_ms: NDArray[np.float64]
    seconds: float


Runner = Callable[[Drive], Ran]
"""A server under a load: a real one by a process, a simulated one in tests."""
Tell = Callable[[str, float], None]


def run_scenario(contender: Contender, asked: Asked, *, tell: Tell) -> ScenarioResult:
    """Raises GateMissed where even the model alone takes longer than the bound, Failed when its process dies."""
    with WORKERS.take() as partner:
        answer_of(partner.ask(encode(Load(contender)), limit_s=_LOAD_LIMIT_S), Ready)
        return measured(lambda job: _driven(partner, job), asked, tell)


def _driven(partner: Partner, job: Drive) -> Ran:
    # As long as it is meant to last, and as long again as its queries may be late.
    limit_s = 600 + 10 * job.seconds
    done = answer_of(partner.ask(encode(job), limit_s=limit_s), Driven)
    return Ran(unpacked(done.latencies)["ms"], done.seconds)


def measured(run: Runner, asked: Asked, tell: Tell) -> ScenarioResult:
    """The scenario on any server."""
    if asked.name == "server":
        return _server(run, asked, tell)
    if asked.name == "offline":
        return _offline(run, asked, tell)
    return _streams(run, asked, tell)


def _streams(run: Runner, asked: Asked, tell: Tell) -> ScenarioResult:
    rule = RULES[asked.name]
    batch = _best_batch(run, (1, 8), asked.seed, tell) if rule.samples_per_query == 8 else 1
    tell(asked.name, 0.1)
    job = Drive(
        asked.seconds, asked.seed, least_queries=rule.least_queries, runs=rule.samples_per_query // batch, batch=batch
    )
    ran = run(job)
    tell(asked.name, 1.0)
    return _result(asked, ran, batch=batch)


def _offline(run: Runner, asked: Asked, tell: Tell) -> ScenarioResult:
    batch = _best_batch(run, _BATCHES, asked.seed, tell)
    tell(asked.name, 0.1)
    ran = run(Drive(asked.seconds, asked.seed, batch=batch))
    tell(asked.name, 1.0)
    samples = len(ran.latencies_ms) * batch
    return ScenarioResult(
        name="offline", metric=RULES["offline"].metric, queries=1, samples_per_query=samples, duration_s=ran.seconds,
        samples_per_s=samples / ran.seconds, batch=batch, unmet=missing("offline", samples, ran.seconds),
    )  # fmt: skip


def _best_batch(run: Runner, sizes: tuple[int, ...], seed: int, tell: Tell) -> int:
    """The number of samples in one run that gives the most samples a second; a model with a fixed batch takes one."""
    rates = {}
    for place, size in enumerate(sizes):
        tell(f"batches of {size}", 0.1 * place / len(sizes))
        with suppress(EdgewardError):
            ran = run(Drive(0.5, seed, least_queries=3, batch=size))
            rates[size] = size * len(ran.latencies_ms) / ran.seconds
    return max(rates, key=lambda size: rates[size], default=1)


def _server(run: Runner, asked: Asked, tell: Tell) -> ScenarioResult:
    """A search in short runs, then runs of full length at what it found, slower until one keeps the bound."""
    percentile = RULES["server"].percentile or 0.99
    tell("the model alone", 0.0)
    alone = run(Drive(_PROBE_S, asked.seed, least_queries=RULES["server"].least_queries + 203))
    if not keeps(alone.latencies_ms, asked.bound_ms, percentile):
        p99 = float(np.quantile(alone.latencies_ms, percentile))
        raise GateMissed(
            f"--latency-bound {asked.bound_ms:g}ms: even one request a second misses it; the model alone has a 99th "
            f"percentile of {p99:.3g} ms", hint=f"--latency-bound {max(2 * p99, 0.01):.2g}ms",
        )  # fmt: skip
    capacity = 1000 / float(alone.latencies_ms.mean())
    tried: list[RateTried] = []
    while (rate := next_rate([Trial(one.rate_per_s, one.kept) for one in tried], capacity)) is not None:
        tell(f"trying {rate:.4g} a second", min(0.6, 0.05 + 0.05 * len(tried)))
        seconds = min(_LONGEST_PROBE_S, max(_PROBE_S, _PROBE_QUERIES / rate))
        ran = run(_at(asked, rate, seconds, len(tried)))
        # Short runs are judged by the percentile itself: with 99 % confidence each would err to the slow side.
        tried.append(_tried(ran, rate, float(np.quantile(ran.latencies_ms, percentile)) <= asked.bound_ms))
    return _confirmed(run, asked, tried, tell)


def _confirmed(run: Runner, asked: Asked, tried: list[RateTried], tell: Tell) -> ScenarioResult:
    percentile = RULES["server"].percentile or 0.99
    kept = [one.rate_per_s for one in tried if one.kept]
    rate = max(kept) if kept else min(one.rate_per_s for one in tried) / 2
    for turn in range(_CONFIRMATIONS):
        tell(f"confirming {rate:.4g} a second", 0.6 + 0.05 * turn)
        seconds = max(asked.seconds, RULES["server"].least_queries * 1.5 / rate)
        ran = run(_at(asked, rate, seconds, 100 + turn))
        tried.append(_tried(ran, rate, keeps(ran.latencies_ms, asked.bound_ms, percentile)))
        if tried[-1].kept:
            tell("server", 1.0)
            return replace(
                _result(asked, ran, batch=1), rate_per_s=rate, latency_bound_ms=asked.bound_ms, tried=tuple(tried)
            )
        rate *= _STEP_DOWN ** (turn + 1)
    raise GateMissed(
        f"--latency-bound {asked.bound_ms:g}ms: no rate from {max(one.rate_per_s for one in tried):.4g} down to "
        f"{rate:.4g} a second kept it for {asked.seconds:g} s; other programs on this machine may be why",
        hint=f"--latency-bound {2 * asked.bound_ms:g}ms",
    )


def _at(asked: Asked, rate: float, seconds: float, turn: int) -> Drive:
    return Drive(seconds, asked.seed + turn, rate_per_s=rate, bound_ms=asked.bound_ms)


def _tried(ran: Ran, rate: float, kept: bool) -> RateTried:
    p99 = float(np.quantile(ran.latencies_ms, 0.99))
    return RateTried(rate_per_s=rate, p99_ms=p99, queries=len(ran.latencies_ms), kept=kept)


def _result(asked: Asked, ran: Ran, *, batch: int) -> ScenarioResult:
    rule, latencies = RULES[asked.name], ran.latencies_ms
    estimate = early_stopping(latencies, rule.percentile or 0.5)
    return ScenarioResult(
        name=asked.name, metric=rule.metric, queries=len(latencies), samples_per_query=rule.samples_per_query,
        duration_s=ran.seconds, samples_per_s=rule.samples_per_query * len(latencies) / ran.seconds, batch=batch,
        percentile=rule.percentile, percentile_ms=float(np.quantile(latencies, rule.percentile or 0.5)),
        estimate_ms=estimate.value, discarded=estimate.discarded,
        unmet=missing(asked.name, len(latencies), ran.seconds),
    )  # fmt: skip
