"""Puts a model under one of MLPerf's four loads, in the process that runs it."""

import time
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.measure.jobs import Drive, Driven, packed
from edgeward.measure.scenarios import arrivals

Feeds = dict[str, NDArray[Any]]
Run = Callable[[Feeds], object]
_SPIN_NS = 1_500_000
"""Sleep ends late by about a tenth of a millisecond: the last part of a wait is spent looking at the clock."""
_HOPELESS = 0.05
"""When so large a share of the queries planned was late, the run cannot keep a 99th percentile any more."""


def drive(run: Run, samples: Sequence[Feeds], job: Drive) -> Driven:
    """One run of the load; latencies in milliseconds, one for each query."""
    generator = np.random.default_rng(job.seed)
    batches = _batches(samples, job.batch)
    begin = perf_counter_ns()
    if job.rate_per_s:
        latencies = _open_loop(run, batches, job, generator)
    else:
        latencies = _closed_loop(run, batches, job, generator)
    seconds = (perf_counter_ns() - begin) / 1e9
    return Driven(packed({"ms": np.array(latencies) / 1e6}), seconds)


def _batches(samples: Sequence[Feeds], size: int) -> list[Feeds]:
    """Inputs of `size` samples each, one starting at each sample."""
    if size == 1:
        return list(samples)
    count = len(samples)
    picks = [[samples[(start + step) % count] for step in range(size)] for start in range(count)]
    return [{name: np.concatenate([one[name] for one in pick]) for name in pick[0]} for pick in picks]


def _closed_loop(run: Run, batches: Sequence[Feeds], job: Drive, generator: np.random.Generator) -> list[int]:
    """The next query as soon as the last is done; a query is `runs` runs."""
    order = generator.integers(0, len(batches), 4096)
    latencies, start, place = list[int](), perf_counter_ns(), 0
    while len(latencies) < job.least_queries or perf_counter_ns() - start < job.seconds * 1e9:
        begin = perf_counter_ns()
        for _ in range(job.runs):
            run(batches[order[place % 4096]])
            place += 1
        latencies.append(perf_counter_ns() - begin)
    return latencies


def _open_loop(run: Run, batches: Sequence[Feeds], job: Drive, generator: np.random.Generator) -> list[int]:
    """Queries at moments that were drawn before; a latency counts from the moment that was drawn."""
    moments = (arrivals(job.rate_per_s, job.seconds, generator) * 1e9).astype(np.int64)
    order = generator.integers(0, len(batches), len(moments))
    latencies, late, hopeless = list[int](), 0, max(20, int(_HOPELESS * len(moments)))
    start = perf_counter_ns() + 2_000_000
    for moment, pick in zip(moments.tolist(), order.tolist(), strict=True):
        due = start + moment
        _wait_until(due)
        run(batches[pick])
        latency = perf_counter_ns() - due
        latencies.append(latency)
        late += latency > job.bound_ms * 1e6
        if late > hopeless:
            break
    return latencies


def _wait_until(due: int) -> None:
    left = due - perf_counter_ns()
    if left > _SPIN_NS:
        time.sleep((left - _SPIN_NS) / 1e9)
    while perf_counter_ns() < due:
        pass
