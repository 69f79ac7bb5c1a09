"""The process that measures: `python -m edgeward.measure.worker` takes a job and says the answer.

Each measurement runs in a process of its own, so that a runtime that crashes or grows is one failed measurement,
and so that load time, first inference and peak memory are those of a fresh process.
"""

import gc
import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from time import perf_counter_ns
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import read_npz, runtimes
from edgeward.infer.runtimes import Session
from edgeward.kit.errors import EdgewardError, Unsupported
from edgeward.kit.memory import peak_bytes
from edgeward.kit.process import receive, send
from edgeward.measure.jobs import (
    Account,
    Accounted,
    Alone,
    Contender,
    Drive,
    Each,
    ErrorTold,
    Fresh,
    Job,
    Load,
    Loaded,
    Open,
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
    packed,
    unpacked,
)
from edgeward.measure.loads import drive
from edgeward.measure.resources import available_memory_bytes, used_memory

Feeds = dict[str, NDArray[Any]]


def alone(job: Solo) -> SoloResult:
    """Load, first and steady inference of one contender, and the peak memory of this process."""
    samples, contender = _feeds(job.contender.feeds), job.contender
    runtimes.load(contender.runtime)  # importing it is not loading the model
    start = perf_counter_ns()
    session = _load(contender)
    return _steady(session, samples, job.seconds, (perf_counter_ns() - start) / 1e6)


def _steady(
    session: Session, samples: Sequence[Feeds], seconds: float, load_ms: float, least_runs: int = 3
) -> SoloResult:
    """Of a session that was not run before."""
    loaded = perf_counter_ns()
    session.run(samples[0])
    first = perf_counter_ns()
    steady: list[int] = []
    while perf_counter_ns() - first < seconds * 1e9 or len(steady) < least_runs:
        begin = perf_counter_ns()
        session.run(samples[len(steady) % len(samples)])
        steady.append(perf_counter_ns() - begin)
    return SoloResult(
        load_ms=load_ms,
        first_ms=(first - loaded) / 1e6,
        steady_ms=float(np.median(steady)) / 1e6,
        peak_memory_bytes=peak_bytes(),
    )


def stable(job: Stable, turns: Iterable[bytes]) -> Iterator[Result]:
    """Ready, then the times of each turn.

    Its untimed runs bring a contender's code and weights back into the caches that the one before it took.
    """
    calls = [(_load(contender).run, _feeds(contender.feeds)) for contender in job.contenders]
    gc.collect()
    gc.disable()
    yield Ready()
    for message in turns:
        turn: Turn = decode(message, Turn)
        yield _timed(*calls[turn.contender], turn)


def fresh(job: Fresh, messages: Iterable[bytes]) -> Iterator[Result]:
    """Ready; then, at a message, what loading cost in this process that did nothing before; then each turn's times."""
    samples = _feeds(job.contender.feeds)
    runtimes.load(job.contender.runtime)  # importing it is not loading the model
    yield Ready()
    turns = iter(messages)
    if next(turns, None) is None:
        return
    before = used_memory()
    start = perf_counter_ns()
    session = _load(job.contender)
    loaded = perf_counter_ns()
    with_model = used_memory()
    begin = perf_counter_ns()
    session.run(samples[0])
    first = perf_counter_ns() - begin
    session.run(samples[0])
    with_arena = used_memory()
    yield Loaded(
        load_ms=(loaded - start) / 1e6, first_ms=first / 1e6,
        process_bytes=before.size, model_bytes=max(0, with_model.size - before.size),
        arena_bytes=max(0, with_arena.size - with_model.size),
        peak_bytes=peak_bytes(), kind=with_arena.kind, read_ms=_read_ms(job.contender),
    )  # fmt: skip
    gc.collect()
    gc.disable()
    for message in turns:
        yield _timed(session.run, samples, decode(message, Turn))


def _read_ms(contender: Contender) -> float | None:
    """Once more, after all that is counted: taking the bytes apart, and no more."""
    read = getattr(runtimes.load(contender.runtime), "read", None)
    if read is None:
        return None
    model = Path(contender.file).read_bytes()
    start = perf_counter_ns()
    read(model)
    return (perf_counter_ns() - start) / 1e6


def _timed(run: Callable[[Feeds], object], samples: Sequence[Feeds], turn: Turn) -> Timed:
    sample = samples[turn.sample % len(samples)]
    for _ in range(turn.untimed):
        run(sample)
    times = []
    for _ in range(turn.runs):
        begin = perf_counter_ns()
        run(sample)
        times.append(perf_counter_ns() - begin)
    return Timed(tuple(times))


def loaded(job: Load, messages: Iterable[bytes]) -> Iterator[Result]:
    """Ready, then what each load gave; a load that the model does not bear is told, and the next may follow."""
    run, samples = _load(job.contender).run, _feeds(job.contender.feeds)
    run(samples[0])
    gc.collect()
    gc.disable()
    yield Ready()
    for message in messages:
        try:
            yield drive(run, samples, decode(message, Drive))
        except EdgewardError as error:
            yield _told(error)


def opened(job: Open, messages: Iterable[bytes]) -> Iterator[Result]:
    """The model's inputs and outputs, then its outputs for each message of inputs of one inference, or of several; or
    what it costs, before it was run, or what it computes in. Another job of this kind takes the model's place."""
    session, load_ms, told = _open(job)
    feeds = cache(_feeds)
    yield told
    for message in messages:
        try:
            asked: Tensors | Each | Alone | Account | Open = decode(message, Tensors | Each | Alone | Account | Open)
            if isinstance(asked, Open):
                del session
                job = asked
                session, load_ms, told = _open(job)
                yield told
            elif isinstance(asked, Account):
                yield Accounted(_arithmetic(job, session))
            elif isinstance(asked, Alone):
                yield _steady(session, feeds(asked.feeds), asked.seconds, load_ms, asked.least_runs)
            elif isinstance(asked, Each):
                yield Each(tuple(_answered(session, inputs) for inputs in asked.values))
            else:
                yield _answered(session, asked)
        except EdgewardError as error:
            yield _told(error)


def _open(job: Open) -> tuple[Session, float, Opened]:
    """A session, the milliseconds that loading it took, and what it says of itself."""
    runtime, model = runtimes.load(job.runtime), Path(job.file).read_bytes()
    start = perf_counter_ns()
    session = runtime.load(model, threads=job.threads)
    load_ms = (perf_counter_ns() - start) / 1e6
    return session, load_ms, Opened(session.inputs, session.outputs, getattr(session, "placement", None))


def _arithmetic(job: Open, session: Session) -> str | None:
    account = getattr(runtimes.load(job.runtime), "arithmetic_of", None)
    told: str | None = getattr(session, "arithmetic", None) if account is None else account(Path(job.file).read_bytes())
    return told


def _answered(session: Session, inputs: Tensors) -> Tensors:
    values = session.run(unpacked(inputs))
    if strange := [spec.name for spec, value in zip(session.outputs, values, strict=True) if _is_no_array(value)]:
        raise Unsupported(f"output {strange[0]!r} is no tensor; sequences and maps are not supported")
    return packed({str(place): value for place, value in enumerate(values)})


def _load(contender: Contender) -> Session:
    return runtimes.load(contender.runtime).load(Path(contender.file).read_bytes(), threads=contender.threads)


def _feeds(file: str) -> list[Feeds]:
    arrays = read_npz(Path(file))
    count = len(next(iter(arrays.values())))
    return [{name: column[index : index + 1] for name, column in arrays.items()} for index in range(count)]


def main() -> None:
    """One job in, its answers out; a fault of ours comes back as a sentence. Nothing in, where it is not needed."""
    with own_output() as output:
        messages = iter(lambda: receive(sys.stdin.buffer), None)
        first = next(messages, None)
        if first is None:
            return
        _limit_memory()
        try:
            for answer in _answers(decode(first, Job), messages):
                send(output, encode(answer))
        except EdgewardError as error:
            send(output, encode(_told(error)))
        except MemoryError:
            send(output, encode(ErrorTold(kind="Failed", message="it wanted more memory than is free", hint=None)))


def _answers(job: Job, messages: Iterable[bytes]) -> Iterable[Result]:
    if isinstance(job, Solo):
        return [alone(job)]
    if isinstance(job, Fresh):
        return fresh(job, messages)
    if isinstance(job, Load):
        return loaded(job, messages)
    return opened(job, messages) if isinstance(job, Open) else stable(job, messages)


def _is_no_array(value: object) -> bool:
    return not isinstance(value, np.ndarray)


def _told(error: EdgewardError) -> ErrorTold:
    return ErrorTold(kind=type(error).__name__, message=error.message, hint=error.hint)


def _limit_memory() -> None:
    """No more than what is free now: a runtime that grows without bound fails here, and takes nothing else with it."""
    free = available_memory_bytes()
    if free:
        resource.setrlimit(resource.RLIMIT_DATA, (free, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def own_output() -> BinaryIO:
    """Standard output, for us alone: what a runtime's libraries print there goes nowhere."""
    output = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return output


if __name__ == "__main__":
    main()
