"""All models of a case timed in turn, each in a process of its own, which runs this module and takes turns.

What one model asks of a runtime for its process (XNNPACK and AMX) would hold for another there; and a process that has
more turns than others has warmer caches.
"""

import gc
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any, Literal

import msgspec
import numpy as np
from bench.optimize_vs_peers.engines import open_engine
from bench.optimize_vs_peers.frames import preparation
from bench.optimize_vs_peers.score import first_output, native
from msgspec import Struct
from numpy.typing import NDArray

from edgeward.infer import read_npz
from edgeward.infer.geometry import placement_of
from edgeward.infer.postprocess import boxes_of
from edgeward.kit.errors import Failed
from edgeward.kit.process import Partner, receive, send
from edgeward.measure.one_cpu import on_one_cpu
from edgeward.records.model import Detect, Postprocess, Preprocess, TensorSpec

_GENERATIONS = 3
_RUNS = 5
_UNTIMED_RUNS = 3
_WARMUP_ROUNDS = 5
_MIN_ROUNDS = 15
_LIMIT_S = 300

Call = Callable[[int], object]
"""Runs the model on one of its samples, by index."""


class Runner(Struct, frozen=True):
    """A peer's model file, or where `runtime` is "edgeward" the folder that it wrote."""

    runtime: str
    file: str


class Job(Struct, frozen=True):
    """Time the runners in turn. `samples` is an .npz: tensors for "model", raw frames for "frame". The answer to a
    frame is the best class where the case has `classes`, the boxes where `reading` says how they are read."""

    what: Literal["model", "frame"]
    runners: list[Runner]
    samples: str
    raw_samples: str
    inputs: list[TensorSpec]
    output: TensorSpec
    steps: Preprocess
    seconds: float
    seed: int
    classes: bool
    reading: Postprocess = ()


def race(job: Job) -> list[NDArray[np.float64]]:
    """Milliseconds of each runner, rounds × runs: in each round everyone has a turn, in a new random order.

    In a few generations of processes: where a model comes to lie in memory is drawn anew in each, and so is the CPU
    that all of them share. All NaN for a runner whose process died.
    """
    parts = []
    for generation in range(_GENERATIONS):
        generator = np.random.default_rng((job.seed, generation))
        with ExitStack() as stack:
            seats = _seats(stack, job)
            for index in range(_WARMUP_ROUNDS):
                _one_round(seats, index, generator)
            stack.enter_context(on_one_cpu([seat.pid for seat in seats if seat is not None]))
            start, rounds = perf_counter(), list[NDArray[np.float64]]()
            while len(rounds) < _MIN_ROUNDS or perf_counter() - start < job.seconds / _GENERATIONS:
                rounds.append(_one_round(seats, len(rounds), generator))
        parts.append(np.stack(rounds, axis=1))
    whole = np.concatenate(parts, axis=1)
    whole[np.isnan(whole).any(axis=(1, 2))] = np.nan
    return [whole[index] for index in range(len(job.runners))]


Seat = Partner | None
"""A runner's process; None once it died."""


def _seats(stack: ExitStack, job: Job) -> list[Seat]:
    seats: list[Seat] = []
    for runner in job.runners:
        partner = stack.enter_context(Partner([sys.executable, "-m", "bench.optimize_vs_peers.race"]))
        seats.append(partner)
        if _said(seats, len(seats) - 1, msgspec.json.encode(msgspec.structs.replace(job, runners=[runner]))) is None:
            print(f"{runner.runtime}: {runner.file} does not run", file=sys.stderr)
    return seats


def _said(seats: list[Seat], number: int, message: bytes) -> bytes | None:
    """What a runner answers; None, and its seat is empty from then on, where it died."""
    partner = seats[number]
    if partner is None:
        return None
    try:
        return partner.ask(message, limit_s=_LIMIT_S)
    except Failed:
        seats[number] = None
        return None


def _one_round(seats: list[Seat], index: int, generator: np.random.Generator) -> NDArray[np.float64]:
    taken = np.full((len(seats), _RUNS), np.nan)
    for number in generator.permutation(len(seats)):
        answer = _said(seats, number, b"%d" % index)
        if answer is not None:
            taken[number] = msgspec.json.decode(answer)
    return taken / 1e6


def calls_of(job: Job) -> list[tuple[Call, int]]:
    """For each runner its call and how many samples it has."""
    tensors, raw = read_npz(Path(job.samples)), read_npz(Path(job.raw_samples))
    count = len(next(iter(raw.values())))
    samples = [[tensors[spec.name][i : i + 1] for spec in job.inputs] for i in range(count)]
    rows = [{name: array[i] for name, array in raw.items()} for i in range(count)]
    return [(_call(job, runner, samples, rows), count) for runner in job.runners]


def _call(job: Job, runner: Runner, samples: list[list[Any]], raw: list[dict[str, Any]]) -> Call:
    if runner.runtime == "edgeward":
        return _edgeward_call(job.what, Path(runner.file), raw)
    engine = open_engine(runner.runtime, Path(runner.file))
    run, first = engine.run, first_output(engine, job.output)
    if job.what == "model":
        feeds = [native(engine, tensors) for tensors in samples]
        return lambda index: run(feeds[index])
    prepare = preparation(job.steps, engine.inputs[0])
    frames = [row[job.inputs[0].name] for row in raw]
    if job.classes:
        return lambda index: run([prepare(frames[index])])[first].argmax()
    read = _reader(job, engine.outputs[first].dequantised, frames)
    return lambda index: read(run([prepare(frames[index])])[first], index)


def _reader(job: Job, dequantised: Callable[[Any], NDArray[Any]], frames: list[Any]) -> Callable[[Any, int], object]:
    """From the output for the frame of an index to the answer: the boxes in that frame as Edgeward gives them, by the
    same code, or the true values."""
    detect = next((step for step in job.reading if isinstance(step, Detect)), None)
    if detect is None:
        return lambda value, _: dequantised(value)

    sizes: list[tuple[int, int]] = [frame.shape[:2] for frame in frames]
    places = [placement_of(job.steps, *size) for size in sizes]
    return lambda value, index: boxes_of(detect, [dequantised(value)[0]], (), places[index], sizes[index])


def _edgeward_call(what: str, out: Path, raw: list[dict[str, Any]]) -> Call:
    from edgeward.bundle import find_bundle, open_predictor, trusted_keys, verify

    predictor = open_predictor(verify(find_bundle(out / "bundle"), trusted_keys()), threads=1)
    if what == "frame":
        return lambda index: predictor.answer(raw[index])
    tensors = [predictor.tensors(sample) for sample in raw]
    single = getattr(predictor.session, "single", None)
    if single is not None:
        return lambda index: single.run(tensors[index][single.name])
    feeds = [{name: tensor[None] for name, tensor in sample.items()} for sample in tensors]
    run = predictor.session.run
    return lambda index: run(feeds[index])


def main() -> None:
    """One job of one runner, then turns: the sample's number, answered by nanoseconds. Untimed runs come first."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    job = msgspec.json.decode(receive(sys.stdin.buffer) or b"", type=Job)
    [(call, count)] = calls_of(job)
    gc.collect()
    gc.disable()
    send(output, b"ready")
    while (turn := receive(sys.stdin.buffer)) is not None:
        sample = int(turn) % count
        for _ in range(_UNTIMED_RUNS):
            call(sample)
        taken = []
        for _ in range(_RUNS):
            begin = perf_counter_ns()
            call(sample)
            taken.append(perf_counter_ns() - begin)
        send(output, msgspec.json.encode(taken))


if __name__ == "__main__":
    main()
