"""Timed runs → the Measurement record, with the setting that makes it mean something."""

import platform
from collections.abc import Mapping
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import runtimes
from edgeward.kit import codec
from edgeward.measure.conditions import Conditions, governor
from edgeward.measure.machine import cpu, hostname, target_name
from edgeward.records.candidate import Distribution, Measurement, Setting


def setting_here(runtime: str, *, threads: int, warmup_runs: int, conditions_line: str) -> Setting:
    """What else decides a number on this machine now."""
    return Setting(
        device_id=hostname(), runtime_version=f"{runtime} {runtimes.load(runtime).version()}",
        kernel=platform.release(), cpu_governor=governor() or "unknown", thread_count=threads,
        warmup_runs=warmup_runs, scenario="single_stream", cpu=cpu(), conditions=conditions_line,
    )  # fmt: skip


def distribution_of(times_ms: NDArray[np.float64]) -> Distribution:
    """The summary of these runs; `samples` is the digest of all of them as JSON."""
    p50, p90, p95, p99 = (float(value) for value in np.quantile(times_ms, (0.5, 0.9, 0.95, 0.99)))
    low, high = (float(value) for value in np.quantile(times_ms, (0.25, 0.75)))
    return Distribution(
        runs=times_ms.size, p50_ms=p50, p95_ms=p95, p99_ms=p99, max_ms=float(times_ms.max()), p90_ms=p90,
        min_ms=float(times_ms.min()), iqr_ms=high - low,
        samples=codec.digest_of(codec.to_json(times_ms.round(6).tolist())),
    )  # fmt: skip


def measurement(
    model: bytes,
    setting: Setting,
    times_ms: NDArray[np.float64],
    *,
    load_ms: float,
    first_ms: float,
    peak_memory_bytes: int,
    taken_at: datetime,
    after: Conditions,
    throttled: bool,
    quality: Mapping[str, float] | None = None,
) -> Measurement:
    """What this model costs here."""
    return Measurement(
        model=codec.digest_of(model), target=target_name(), setting=setting, taken_at=taken_at.replace(microsecond=0),
        latency=distribution_of(times_ms), cold_start_ms=load_ms + first_ms,
        throughput_per_s=1000 / float(times_ms.mean()), peak_memory_bytes=peak_memory_bytes, energy_mj=None,
        quality=dict(quality or {}), temperature_c=after.temperature_c, throttled=throttled, load_ms=load_ms,
        first_ms=first_ms,
    )  # fmt: skip
