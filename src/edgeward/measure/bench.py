"""Times models in processes of their own: one alone (load, first, memory), or several interleaved."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeward.kit import errors
from edgeward.kit.errors import Failed
from edgeward.kit.process import Partner, Standby
from edgeward.measure.jobs import (
    Accounted,
    Contender,
    Driven,
    Each,
    ErrorTold,
    Loaded,
    Opened,
    Ready,
    Result,
    Solo,
    SoloResult,
    Stable,
    Tensors,
    Timed,
    Turn,
    decode,
    encode,
)
from edgeward.measure.one_cpu import on_one_cpu
from edgeward.measure.statistics import median_ratio_interval, quantiles
from edgeward.records.candidate import Comparison, Latency

_Result = TypeVar("_Result", SoloResult, Ready, Loaded, Timed, Driven, Opened, Accounted, Tensors, Each)
_LOAD_LIMIT_S = 120
_TURN_LIMIT_S = 120
_MOST_RUNS = 20_000
WORKERS = Standby(
    (sys.executable, "-m", "edgeward.measure.worker"),
    most=1 if len(os.sched_getaffinity(0)) > 1 else 0,
    environment={"OPENBLAS_NUM_THREADS": "1"},
)
"""A candidate is timed in one process, and answers in it and in another. Where there is one CPU, none is started ahead:
it would take time from what is measured. NumPy's own threads do nothing there but wait busily when they start."""
_TIE_MARGIN = 0.02
"""The same model against itself differs by up to this, by where it lies in memory: no difference to speak of."""

HISTOGRAM_SHARES = tuple((index + 0.5) / 100 for index in range(100))
"""The quantiles that stand for a latency distribution in reports."""


def save_feeds(path: Path, samples: Sequence[Mapping[str, NDArray[Any]]]) -> Path:
    """Input tensors (no batch axis) as the .npz that contenders are fed with, in turn."""
    columns = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    # Strings as numpy's own: Python objects would have to be pickled.
    plain = {name: column.astype(str) if column.dtype == object else column for name, column in columns.items()}
    np.savez(path, **plain)  # type: ignore[arg-type]
    return path


def measure_alone(contender: Contender, *, seconds: float = 0.2, limit_s: float = 120) -> SoloResult:
    """Load, first and steady inference and peak memory in a fresh process. Raises Failed when it crashes."""
    with WORKERS.take() as partner:
        return answer_of(partner.ask(encode(Solo(contender, seconds)), limit_s=limit_s), SoloResult)


def race(
    contenders: Sequence[Contender],
    *,
    seconds: float,
    seed: int,
    generations: int = 3,
    min_rounds: int = 30,
    max_rounds: int = 4000,
    warmup_rounds: int = 5,
    runs: int = 5,
) -> list[NDArray[np.float64]]:
    """Milliseconds of each contender, rounds × runs, taken in turn.

    Each runtime has a process of its own; in each round every contender has one turn, in a new random order, on the
    same CPU where all run on one thread. All is done in a few generations of processes: where a model comes to lie in
    memory is drawn anew in each.
    Raises Failed when a runtime dies.
    """
    parts: list[NDArray[np.float64]] = []
    for generation in range(generations):
        generator = np.random.default_rng((seed, generation))
        with ExitStack() as stack:
            calls = _stables(stack, contenders)
            for index in range(warmup_rounds):
                _one_round(calls, index, runs, generator)
            if all(contender.threads == 1 for contender in contenders):
                stack.enter_context(
                    on_one_cpu([partner.pid for partner in dict.fromkeys(partner for partner, _ in calls)])
                )
            start, rounds = perf_counter(), list[NDArray[np.float64]]()
            while len(rounds) <= max_rounds // generations:
                rounds.append(_one_round(calls, len(rounds), runs, generator))
                late = perf_counter() - start > seconds / generations
                if late and len(rounds) > min_rounds // generations:
                    break
        parts.append(np.stack(rounds, axis=1))
    whole = np.concatenate(parts, axis=1)
    return [whole[index] for index in range(len(contenders))]


def _stables(stack: ExitStack, contenders: Sequence[Contender]) -> list[tuple[Partner, int]]:
    """For each contender the process that holds it, and its place there."""
    groups: dict[str, list[int]] = {}
    for number, contender in enumerate(contenders):
        groups.setdefault(contender.runtime, []).append(number)
    calls: dict[int, tuple[Partner, int]] = {}
    partners = []
    for numbers in groups.values():
        partner = stack.enter_context(WORKERS.take())
        partner.tell(encode(Stable(tuple(contenders[number] for number in numbers))))
        partners.append(partner)
        calls |= {number: (partner, place) for place, number in enumerate(numbers)}
    for partner in partners:
        answer_of(partner.hear(limit_s=_LOAD_LIMIT_S), Ready)
    return [calls[number] for number in range(len(contenders))]


@contextmanager
def steady_runs(contender: Contender) -> Iterator[Callable[[float], int]]:
    """A call that runs the contender again and again for so many seconds, and gives how many inferences that were.

    It is asked for a tenth of a second's work at a time, so that asking costs next to nothing.
    """
    batch = 1
    with ExitStack() as stack:
        ((partner, place),) = _stables(stack, [contender])

        def run_for(seconds: float) -> int:
            nonlocal batch
            start, count = perf_counter(), 0
            while (begun := perf_counter()) - start < seconds:
                answer_of(partner.ask(encode(Turn(place, count, batch, untimed=0)), limit_s=_TURN_LIMIT_S), Timed)
                count += batch
                batch = max(1, min(_MOST_RUNS, round(batch * 0.1 / (perf_counter() - begun))))
            return count

        yield run_for


def _one_round(
    calls: Sequence[tuple[Partner, int]], index: int, runs: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Contenders × runs, in milliseconds."""
    taken = np.empty((len(calls), runs))
    for number in generator.permutation(len(calls)):
        partner, place = calls[number]
        message = partner.ask(encode(Turn(place, index, runs)), limit_s=_TURN_LIMIT_S)
        taken[number] = answer_of(message, Timed).times_ns
    return taken / 1e6


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


def answer_of(message: bytes, wanted: type[_Result]) -> _Result:
    """What a measuring process said. Raises the error that it told."""
    result: Result = decode(message, Result)
    if isinstance(result, ErrorTold):
        raise getattr(errors, result.kind)(result.message, hint=result.hint)
    if not isinstance(result, wanted):
        raise Failed("the measuring process gave another answer than it was asked for")
    return result
