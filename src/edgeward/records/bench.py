"""What a benchmark adds to the plain numbers: how memory is split, what a scenario gave, how two models differ."""

from typing import Literal

from edgeward.records.base import Bytes, Count, Positive, Ratio, Record


class MemorySplit(Record):
    """The memory of the process that runs a model, once it has run: medians of fresh processes.

    `process_bytes` was there before (interpreter, runtime, inputs), `model_bytes` came with loading, `arena_bytes` with
    the first inferences. `counted_as` is "PSS", which shares pages among the processes that hold them, or "RSS".
    """

    process_bytes: Bytes
    model_bytes: Bytes
    arena_bytes: Bytes
    counted_as: Literal["PSS", "RSS"]


class RateTried(Record):
    """An arrival rate of the search, its 99th percentile over so many queries, and whether the bound was kept."""

    rate_per_s: Positive
    p99_ms: Positive
    queries: Count
    kept: bool


class ScenarioResult(Record):
    """One of MLPerf Inference's scenarios by MLPerf's method; never an MLPerf result.

    `percentile_ms` is of the queries as measured, `estimate_ms` MLPerf's early-stopping estimate, which holds with 99 %
    confidence; both None where the metric is a throughput. `rate_per_s` is the highest arrival rate that kept the
    bound. `unmet` is what MLPerf's rules ask of a run and this one has not.
    """

    name: Literal["single-stream", "multi-stream", "server", "offline"]
    metric: str
    queries: Count
    samples_per_query: Count
    duration_s: Positive
    samples_per_s: Positive
    batch: Count
    percentile: Ratio | None = None
    percentile_ms: Positive | None = None
    estimate_ms: Positive | None = None
    discarded: Count = 0
    latency_bound_ms: Positive | None = None
    rate_per_s: Positive | None = None
    tried: tuple[RateTried, ...] = ()
    unmet: tuple[str, ...] = ()
    method: str = "MLPerf Inference's method; not an MLPerf result"


class SweepPoint(Record):
    """A setting: so many streams at once, each a process on so many threads. `error` is why there is no number."""

    threads: Count
    streams: Count
    p50_ms: Positive | None = None
    p99_ms: Positive | None = None
    throughput_per_s: Positive | None = None
    error: str = ""


class Sweep(Record):
    """All settings, and the best: `fastest` has the lowest p50, `most` the highest throughput."""

    points: tuple[SweepPoint, ...]
    fastest: SweepPoint | None = None
    most: SweepPoint | None = None


class SteadyWindow(Record):
    """Some seconds of a long run. The temperature is None where nothing tells it."""

    at_s: float
    p50_ms: Positive
    temperature_c: float | None = None


class Steady(Record):
    """A run until nothing changed any more. `burst_p50_ms` is of its first seconds, `steady_p50_ms` of its last
    windows; `is_steady` False: the time was over first. `watched` is what was looked at."""

    windows: tuple[SteadyWindow, ...]
    burst_p50_ms: Positive
    steady_p50_ms: Positive
    took_s: Positive
    is_steady: bool
    watched: str


class Change(Record):
    """X against the base: `ratio` is X's metric over the base's, with its 95 % interval, over so many generations of
    fresh processes. A difference under 2 % is none;
    "unclear" is an interval too wide to say so."""

    metric: str
    ratio: Positive
    ratio_ci: tuple[Positive, Positive]
    verdict: Literal["no difference", "unclear", "faster", "slower", "less", "more"]
    generations: Count


class Check(Record):
    """A condition of --fail-if. `change` is X against the base (0.05 is 5 % more), `bound` how much it is at least (for
    a fall: at most) with that confidence; `failed` when that is beyond `limit`."""

    condition: str
    change: float
    bound: float
    limit: float
    confidence: Ratio
    failed: bool
