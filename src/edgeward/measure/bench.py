"""Times models in processes of their own: one alone (load, first, memory), or several interleaved."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeward.kit import errors, process
from edgeward.kit.errors import Failed
from edgeward.measure.jobs import Contender, ErrorTold, Job, Race, RaceResult, Result, Solo, SoloResult
from edgeward.measure.statistics import median_ratio_interval, quantiles
from edgeward.records.candidate import Comparison, Latency

_RACE_PROCESSES = 3
_TIE_MARGIN = 0.02
"""The same model against itself differs by up to this, by where it lies in memory: no difference to speak of."""

HISTOGRAM_SHARES = tuple((index + 0.5) / 100 for index in range(100))
"""The quantiles that stand for a latency distribution in reports."""


def save_feeds(path: Path, samples: Sequence[Mapping[str, NDArray[Any]]]) -> Path:
    """Input tensors (no batch axis) as the .npz that contenders are fed with, in turn."""
    np.savez(path, **{name: np.stack([sample[name] for sample in samples]) for name in samples[0]})  # type: ignore[arg-type]
    return path


def measure_alone(contender: Contender, *, seconds: float = 0.2, limit_s: float = 120) -> SoloResult:
    """Load, first and steady inference and peak memory in a fresh process. Raises Failed when it crashes."""
    result = _measured(Solo(contender, seconds), limit_s)
    if not isinstance(result, SoloResult):
        raise Failed("the measuring process gave another answer than it was asked for")
    return result


def race(
    contenders: Sequence[Contender],
    *,
    seconds: float,
    seed: int,
    min_rounds: int = 30,
    max_rounds: int = 4000,
    warmup_rounds: int = 5,
    runs: int = 5,
    limit_s: float = 600,
) -> list[NDArray[np.float64]]:
    """Milliseconds of each contender, rounds × runs, taken in turn, in a few processes one after the other: where a
    model comes to lie in memory is drawn anew in each."""
    parts: list[list[NDArray[np.float64]]] = []
    for process_index in range(_RACE_PROCESSES):
        job = Race(
            tuple(contenders), seconds / _RACE_PROCESSES, min_rounds // _RACE_PROCESSES + 1,
            max_rounds // _RACE_PROCESSES + 1, warmup_rounds, runs, seed + process_index,
        )  # fmt: skip
        result = _measured(job, limit_s)
        if not isinstance(result, RaceResult):
            raise Failed("the measuring process gave another answer than it was asked for")
        parts.append([np.array(times) for times in result.times_ms])
    return [np.concatenate([part[index] for part in parts]) for index in range(len(contenders))]


def latency_of(times_ms: NDArray[np.float64]) -> Latency:
    p50, p95, p99 = quantiles(times_ms, (0.5, 0.95, 0.99))
    return Latency(p50=p50, p95=p95, p99=p99, runs=times_ms.size)


def compare(base: NDArray[np.float64], other: NDArray[np.float64], *, seed: int) -> Comparison:
    """`other` against `base`, both rounds × runs of one race. A difference inside the noise, or under 2 %, is a tie."""
    ratio, (low, high) = median_ratio_interval(base, other, seed=seed)
    return Comparison(ratio=ratio, ratio_ci=(low, high), verdict=verdict_of(low, high))


def verdict_of(low: float, high: float) -> Literal["faster", "slower", "tie"]:
    """What the 95 % interval of a speed-up allows to say."""
    return "faster" if low > 1 + _TIE_MARGIN else "slower" if high < 1 - _TIE_MARGIN else "tie"


def _measured(job: Job, limit_s: float) -> Result:
    finished = process.run(
        [sys.executable, "-m", "edgeward.measure.worker"], limit_s=limit_s, stdin=msgspec.json.encode(job)
    )
    if finished.code != 0:
        last_line = finished.complaint.splitlines()[-1] if finished.complaint else ""
        raise Failed(f"the runtime died while it was measured ({finished.ending}) {last_line}".strip())
    result: Result = msgspec.json.decode(finished.output, type=Result)
    if isinstance(result, ErrorTold):
        raise getattr(errors, result.kind)(result.message, hint=result.hint)
    return result
