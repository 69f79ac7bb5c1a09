"""One model measured on a machine: fresh processes for load and memory, one race for latency → Measurement."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.kit import codec
from edgeward.kit.clock import Clock
from edgeward.measure.conditions import Conditions, throttled
from edgeward.measure.jobs import Contender, SoloResult
from edgeward.measure.place import HERE, Place
from edgeward.records.candidate import Distribution, Measurement, Setting

_FRESH_PROCESSES = 3
_WARMUP_ROUNDS = 5
_RUNS = 5
_MIN_ROUNDS = 10


class Entry(NamedTuple):
    """Who takes part: the digest of the model's bytes, and the file that is run."""

    model: str
    contender: Contender


class Measured(NamedTuple):
    """The record, and the raw runs behind it: rounds × runs in milliseconds."""

    measurement: Measurement
    times_ms: NDArray[np.float64]


def measure(
    entries: Sequence[Entry], *, seconds: float, seed: int, clock: Clock, place: Place = HERE
) -> list[Measured]:
    """All entries, interleaved in one race of so many seconds each; load, first run and memory in fresh processes.

    All of it at `place`. Raises what a place raises; then there is no result at all.
    """
    before = place.conditions()
    alone = [_alone(entry.contender, place) for entry in entries]
    contenders = [entry.contender for entry in entries]
    times = place.race(contenders, seconds=seconds * len(entries), seed=seed, min_rounds=_MIN_ROUNDS)
    after = place.conditions()
    return [
        Measured(_record(entry, solo, mine, (before, after), clock, place), mine)
        for entry, solo, mine in zip(entries, alone, times, strict=True)
    ]


def _alone(contender: Contender, place: Place) -> SoloResult:
    """The medians of a few fresh processes."""
    found = [place.measure_alone(contender) for _ in range(_FRESH_PROCESSES)]
    return SoloResult(
        load_ms=float(np.median([one.load_ms for one in found])),
        first_ms=float(np.median([one.first_ms for one in found])),
        steady_ms=float(np.median([one.steady_ms for one in found])),
        peak_memory_bytes=int(np.median([one.peak_memory_bytes for one in found])),
    )


def _record(
    entry: Entry,
    alone: SoloResult,
    times: NDArray[np.float64],
    around: tuple[Conditions, Conditions],
    clock: Clock,
    place: Place,
) -> Measurement:
    return Measurement(
        model=entry.model,
        target=place.facts.name,
        setting=setting_of(entry.contender, around[0], place),
        taken_at=clock.now(),
        latency=distribution_of(times),
        cold_start_ms=alone.load_ms + alone.first_ms,
        throughput_per_s=1000 / float(times.mean()),
        peak_memory_bytes=alone.peak_memory_bytes,
        energy_mj=None,
        quality={},
        temperature_c=around[1].temperature_c,
        throttled=throttled(*around),
        load_ms=alone.load_ms,
        first_ms=alone.first_ms,
    )


def setting_of(contender: Contender, before: Conditions, place: Place = HERE) -> Setting:
    """The setting of a race; the load that it makes itself is not in it."""
    return Setting(
        device_id=place.facts.hostname,
        runtime_version=f"{contender.runtime} {place.version(contender.runtime)}",
        kernel=place.facts.kernel,
        cpu_governor=before.governor or "unknown",
        thread_count=contender.threads,
        warmup_runs=_WARMUP_ROUNDS * (_RUNS + 1),
        scenario="single_stream",
        cpu=place.facts.cpu,
        conditions=before.line(),
    )


def distribution_of(times_ms: NDArray[np.float64]) -> Distribution:
    """The summary of raw runs, with the digest of the runs themselves."""
    low, p25, p50, p75, p90, p95, p99, high = (
        float(value) for value in np.quantile(times_ms, (0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1))
    )
    return Distribution(
        runs=times_ms.size, min_ms=low, p50_ms=p50, p90_ms=p90, p95_ms=p95, p99_ms=p99, max_ms=high,
        iqr_ms=p75 - p25,
        samples=codec.digest_of(codec.to_json(times_ms.round(6).tolist())),
    )  # fmt: skip
