"""A model measured in a few generations of fresh processes → Measurement; two of them, compared."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from edgeward.kit import codec
from edgeward.kit.clock import Clock
from edgeward.measure.conditions import Conditions, throttled
from edgeward.measure.generations import WARMUP_ROUNDS, Generation
from edgeward.measure.jobs import Contender, Loaded
from edgeward.measure.place import HERE, Place
from edgeward.records.bench import MemorySplit
from edgeward.records.candidate import BenchMeasurement, Distribution, Setting

_RUNS_OF_A_RACE = 5


class Entry(NamedTuple):
    """Who takes part: the digest of the model's bytes, and the file that is run."""

    model: str
    contender: Contender


class Effort(NamedTuple):
    """How much is measured: generations of fresh processes, and seconds of timing of each model in all of them."""

    generations: int
    seconds: float
    seed: int


class Measured(NamedTuple):
    """A record for each entry, and the generations behind them."""

    measurements: tuple[BenchMeasurement, ...]
    generations: tuple[Generation, ...]


def measure(
    entries: Sequence[Entry],
    effort: Effort,
    *,
    clock: Clock,
    place: Place = HERE,
    tell: Callable[[float], None] = lambda _: None,
) -> Measured:
    """All entries, interleaved; load, first inference and memory are those of fresh processes.

    All of it at `place`. Raises what a place raises; then there is no result at all.
    """
    before = place.conditions()
    found = place.generations(
        [entry.contender for entry in entries], count=effort.generations,
        seconds=effort.seconds * len(entries) / effort.generations, seed=effort.seed, tell=tell,
    )  # fmt: skip
    around = (before, place.conditions())
    records = [
        _record(entry, [_Part(one.loaded[at], one.times_ms[at]) for one in found], around, clock, place)
        for at, entry in enumerate(entries)
    ]
    return Measured(tuple(records), tuple(found))


class _Part(NamedTuple):
    """What a generation says of one entry."""

    loaded: Loaded
    times_ms: NDArray[np.float64]


def _record(
    entry: Entry, found: Sequence[_Part], around: tuple[Conditions, Conditions], clock: Clock, place: Place
) -> BenchMeasurement:
    loaded = [one.loaded for one in found]
    times = np.concatenate([one.times_ms.reshape(-1) for one in found])
    load_ms, first_ms = median(one.load_ms for one in loaded), median(one.first_ms for one in loaded)
    return BenchMeasurement(
        model=entry.model,
        target=place.facts.name,
        setting=setting_of(entry.contender, around[0], place, warmup_runs=WARMUP_ROUNDS * found[0].times_ms.shape[1]),
        taken_at=clock.now(),
        latency=distribution_of(times),
        cold_start_ms=load_ms + first_ms,
        throughput_per_s=1000 / float(times.mean()),
        peak_memory_bytes=int(median(one.peak_bytes for one in loaded)),
        energy_mj=None,
        quality={},
        temperature_c=around[1].temperature_c,
        throttled=throttled(*around),
        load_ms=load_ms,
        first_ms=first_ms,
        memory=memory_of(loaded),
        compile_ms=_compile_ms(loaded),
    )


def _compile_ms(loaded: Sequence[Loaded]) -> float | None:
    """What of loading is not taking the bytes apart: optimising the graph, choosing kernels, packing weights."""
    parts = [one.load_ms - one.read_ms for one in loaded if one.read_ms is not None]
    return max(0.001, median(parts)) if parts else None


def memory_of(loaded: Sequence[Loaded]) -> MemorySplit:
    """The medians of some fresh processes."""
    return MemorySplit(
        process_bytes=int(median(one.process_bytes for one in loaded)),
        model_bytes=int(median(one.model_bytes for one in loaded)),
        arena_bytes=int(median(one.arena_bytes for one in loaded)),
        counted_as=cast(Literal["PSS", "RSS"], loaded[0].kind),
    )


def setting_of(
    contender: Contender, before: Conditions, place: Place = HERE, *, warmup_runs: int = 5 * (_RUNS_OF_A_RACE + 1)
) -> Setting:
    """The setting of a race; the load that it makes itself is not in it."""
    return Setting(
        device_id=place.facts.hostname,
        runtime_version=f"{contender.runtime} {place.version(contender.runtime)}",
        kernel=place.facts.kernel,
        cpu_governor=before.governor or "unknown",
        thread_count=contender.threads,
        warmup_runs=warmup_runs,
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
