"""The process that measures: `python -m edgeward.measure.worker` takes a job on standard input and prints the answer.

Each measurement runs in a process of its own, so that a runtime that crashes or grows is one failed measurement,
and so that load time, first inference and peak memory are those of a fresh process.
"""

import gc
import sys
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeward.infer import read_npz, runtimes
from edgeward.infer.runtimes import Session
from edgeward.kit.errors import EdgewardError
from edgeward.measure.jobs import Contender, ErrorTold, Job, Race, RaceResult, Result, Solo, SoloResult
from edgeward.measure.resources import peak_memory_bytes

Feeds = dict[str, NDArray[Any]]


def alone(job: Solo) -> SoloResult:
    """Load, first and steady inference of one contender, and the peak memory of this process."""
    samples = _feeds(job.contender)
    runtimes.load(job.contender.runtime)  # importing it is not loading the model
    start = perf_counter_ns()
    session = _load(job.contender)
    loaded = perf_counter_ns()
    session.run(samples[0])
    first = perf_counter_ns()
    steady: list[int] = []
    while perf_counter_ns() - first < job.seconds * 1e9 or len(steady) < 3:
        begin = perf_counter_ns()
        session.run(samples[len(steady) % len(samples)])
        steady.append(perf_counter_ns() - begin)
    return SoloResult(
        load_ms=(loaded - start) / 1e6,
        first_ms=(first - loaded) / 1e6,
        steady_ms=float(np.median(steady)) / 1e6,
        peak_memory_bytes=peak_memory_bytes(),
    )


def race(job: Race) -> RaceResult:
    """All contenders in turn, in a new random order each round; per round one untimed run and `job.runs` timed ones.

    The untimed run brings a contender's weights back into the caches that the one before it took.
    """
    calls = [(_load(contender).run, _feeds(contender)) for contender in job.contenders]
    generator = np.random.default_rng(job.seed)
    rounds: list[NDArray[np.float64]] = []
    gc.collect()
    gc.disable()
    for index in range(job.warmup_rounds):
        _one_round(calls, index, job.runs, generator)
    start = perf_counter_ns()
    while len(rounds) < job.max_rounds:
        rounds.append(_one_round(calls, len(rounds), job.runs, generator))
        if perf_counter_ns() - start > job.seconds * 1e9 and len(rounds) >= job.min_rounds:
            break
    return RaceResult(times_ms=np.round(np.stack(rounds, axis=1), 6).tolist())


def _one_round(
    calls: list[tuple[Any, list[Feeds]]], index: int, runs: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Contenders × runs, in milliseconds."""
    taken = np.empty((len(calls), runs))
    for number in generator.permutation(len(calls)):
        run, samples = calls[number]
        sample = samples[index % len(samples)]
        run(sample)
        for turn in range(runs):
            begin = perf_counter_ns()
            run(sample)
            taken[number, turn] = perf_counter_ns() - begin
    return taken / 1e6


def _load(contender: Contender) -> Session:
    return runtimes.load(contender.runtime).load(Path(contender.file).read_bytes(), threads=contender.threads)


def _feeds(contender: Contender) -> list[Feeds]:
    arrays = read_npz(Path(contender.feeds))
    count = len(next(iter(arrays.values())))
    return [{name: column[index : index + 1] for name, column in arrays.items()} for index in range(count)]


def main() -> None:
    """One job in, one answer out; a fault of ours comes back as a sentence."""
    job: Job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    answer: Result
    try:
        answer = alone(job) if isinstance(job, Solo) else race(job)
    except EdgewardError as error:
        answer = ErrorTold(kind=type(error).__name__, message=error.message, hint=error.hint)
    sys.stdout.buffer.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    main()
