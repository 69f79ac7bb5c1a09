"""What was tried, what it cost, and which one was chosen."""

from collections.abc import Mapping
from typing import Literal

from edgeward.records.base import Bytes, Count, Digest, Document, Instant, Positive, Record, Slug
from edgeward.records.bench import MemorySplit, ScenarioResult, Steady, Sweep
from edgeward.records.model import Dataset, Preprocess
from edgeward.records.target import Budget

Timing = Literal["measured", "forecast", "meaningless"]
"""What times and memory are worth: taken on the target; taken elsewhere, a forecast for it; taken under emulation."""


class Step(Document):
    """One pass with its options; options are checked by the pass itself."""

    use: Slug
    options: Mapping[str, bool | int | float | str] = {}


class Recipe(Document):
    """Passes in the order they run, and the runtime that runs what they make."""

    name: Slug
    steps: tuple[Step, ...]
    runtime: str = "onnxruntime"


class Distribution(Record):
    """Summary of `runs` timed runs; the raw runs stay in the blob store under `samples`."""

    runs: Count
    p50_ms: Positive
    p95_ms: Positive
    p99_ms: Positive
    max_ms: Positive
    samples: Digest
    p90_ms: Positive | None = None
    min_ms: Positive | None = None
    iqr_ms: float | None = None


class Setting(Record):
    """What else decides a number: a measurement without its setting is a rumour.

    `conditions` is one line for a person: governor, load, throttling, virtual machine.
    """

    device_id: str
    runtime_version: str
    kernel: str
    cpu_governor: str
    thread_count: Count
    warmup_runs: Count
    scenario: Literal["single_stream", "multi_stream", "server", "offline"]
    cpu: str = ""
    conditions: str = ""


class Energy(Record):
    """What one inference costs, as a meter of this `scope` saw it; figures of different scope never compare.

    `gross_mj` is all that was drawn while the model ran, `net_mj` is without the idle power (the mean of before and
    after; `idle_drift_mw` is what these differ by), None where `note` says why. `dropped` samples were lost.
    """

    gross_mj: Positive
    net_mj: float | None
    power_mw: float
    idle_mw: float
    idle_drift_mw: float
    source: str
    scope: str
    sampling_hz: Positive
    seconds: Positive
    inferences: Count
    dropped: Count = 0
    note: str = ""


class Measurement(Record):
    """One model measured on one machine. `throttled` marks numbers taken while hot.

    `model` is the digest of the Model record. `peak_memory_bytes` is of the whole process.
    `energy_mj` is gross, per inference, None where it was not metered. `quality` is by metric
    name, higher is better except for errors (mse, mae, rmse). `cold_start_ms` is load plus first inference.
    """

    model: Digest
    target: Slug
    setting: Setting
    taken_at: Instant
    latency: Distribution
    cold_start_ms: Positive
    throughput_per_s: Positive
    peak_memory_bytes: Bytes
    energy_mj: Positive | None
    quality: Mapping[str, float]
    temperature_c: float | None
    throttled: bool
    load_ms: Positive | None = None
    first_ms: Positive | None = None


class BenchMeasurement(Measurement):
    """What `edgeward bench` tells of a model besides; a bundle's manifest has the plain Measurement, whose bytes stay.

    `compile_ms` is what of load is not taking the file apart: optimising the graph, choosing kernels, packing weights.
    """

    memory: MemorySplit | None = None
    compile_ms: Positive | None = None
    scenario: ScenarioResult | None = None
    sweep: Sweep | None = None
    steady: Steady | None = None
    energy: Energy | None = None


class Comparison(Record):
    """B against A, runs interleaved. `ratio` is A's p50 over B's: above 1, B is faster.

    The interval holds the ratio with 95 % confidence; a tie is one that reaches to within 2 % of 1.
    """

    ratio: Positive
    ratio_ci: tuple[Positive, Positive]
    verdict: Literal["faster", "slower", "tie"]


class Violation(Record):
    """A limit that was not kept. `limit` is the Budget field's name."""

    limit: str
    allowed: float
    measured: float


class Latency(Record):
    """Percentiles of one inference in milliseconds, over `runs` interleaved runs."""

    p50: Positive
    p95: Positive
    p99: Positive
    runs: Count


class Trial(Record):
    """One candidate as it ran here. The numbers are None when `failure` says why it did not run.

    `quality_drop` is baseline minus candidate, for errors such as mse the relative rise; its 95 %
    interval is of paired differences. `speedup_p50` is the baseline's p50 over the candidate's, of
    interleaved runs. `file` is a name inside the output folder, None for files that were not kept. `alone_ms` is the
    median of an inference while the candidate ran alone, which those that were stopped early have too.
    `delta_bytes` is the size of an update from the deployed version (`zstd --patch-from`), where one was given.
    """

    recipe: str
    steps: tuple[Step, ...]
    runtime: str
    runtime_version: str
    precision: str
    file: str | None
    digest: Digest | None
    size_bytes: Bytes | None = None
    quality: Mapping[str, float] = {}
    quality_drop: float | None = None
    quality_drop_ci: tuple[float, float] | None = None
    latency_ms: Latency | None = None
    latency_histogram: tuple[float, ...] = ()
    speedup_p50: Positive | None = None
    speedup_ci: tuple[Positive, Positive] | None = None
    load_ms: Positive | None = None
    first_ms: Positive | None = None
    peak_memory_bytes: Bytes | None = None
    violations: tuple[Violation, ...] = ()
    failure: str | None = None
    notes: tuple[str, ...] = ()
    thread_count: Count | None = None
    alone_ms: Positive | None = None
    delta_bytes: Bytes | None = None
    energy: Energy | None = None


class Layer(Record):
    """One layer of a model: what it costs here, and what int8 does to it.

    `share` is of the time of all layers. `placement` is where it ran: provider, kernel, precision. `forecast_gain` is
    its time in float over its time in int8, from a micro-benchmark at its own shape; above 1, int8 is forecast to be
    faster; `forecast_gains` by runtime. `sqnr_db` is the signal-to-noise ratio that int8 leaves at its output. None is
    not measured.
    """

    name: str
    op: str
    time_ms: float | None = None
    share: float | None = None
    sqnr_db: float | None = None
    placement: str = ""
    forecast_gain: float | None = None
    why: str = ""
    forecast_gains: Mapping[str, float] = {}


class RuntimeForecast(Record):
    """What int8 was forecast to gain in one runtime, before the search; then what it did.

    `gain` is the float model's time over the int8 model's, both in this runtime; `speedup` is the time of the model as
    given, in the baseline's runtime, over the int8 model's in this one. `measured_gain` and `measured_speedup` are the
    same of the candidate `recipe`, of medians of one interleaved run; `is_alone`: of each alone, since it was stopped
    early. None is not forecast, or not measured.
    """

    runtime: str
    gain: float | None
    speedup: float | None = None
    why: str = ""
    recipe: str = ""
    measured_gain: float | None = None
    measured_speedup: float | None = None
    is_alone: bool = False


class Forecast(Record):
    """What int8 will gain here, told before the work: from CPU features and each layer's shape, run in float and int8.

    `runtimes` are the fastest forecast first. `layers` are the model's own in the order of the graph; their
    `forecast_gain` is for `runtimes[0]`. `covered` is the share of the work that the micro-benchmark ran; the rest is
    taken to gain as much.
    """

    cpu: str
    summary: str
    runtimes: tuple[RuntimeForecast, ...]
    layers: tuple[Layer, ...]
    covered: float
    took_s: float


class Update(Record):
    """What replacing the deployed version takes, and what keeping its scales and order cost.

    `unbound` is the recipe that would have been chosen without a parent; `quality_cost` is the chosen one's drop
    minus the drop of that.
    """

    parent: Digest
    name: str
    version: str
    delta_bytes: Bytes | None = None
    unbound: str | None = None
    unbound_delta_bytes: Bytes | None = None
    quality_cost: float | None = None


class Report(Record):
    """Every trial of one optimisation, good and bad, and the choice with its reason.

    `layers` are those of the model as given, `chosen_layers` those of the chosen one, each in the order they run.
    """

    schema_version: int
    edgeward_version: str
    model: str
    model_digest: Digest
    metric: str
    max_drop: float
    budget: Budget
    target: str
    setting: Setting
    evaluation: Dataset
    calibration: Dataset
    preprocess: Preprocess
    seed: int
    baseline: Trial
    chosen: Trial | None
    nearest: str | None
    trials: tuple[Trial, ...]
    pareto: tuple[str, ...]
    reason: str
    notes: tuple[str, ...]
    command: str
    taken_at: Instant
    took_s: float
    layers: tuple[Layer, ...] = ()
    chosen_layers: tuple[Layer, ...] = ()
    forecast: Forecast | None = None
    timing: Timing = "measured"
    update: Update | None = None
