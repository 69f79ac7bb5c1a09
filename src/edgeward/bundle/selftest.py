"""Runs a verified bundle here, and checks that it answers as it did where it was made."""

import os
import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from edgeward.bundle.verified import VerifiedBundle
from edgeward.bundle.versions import accepts
from edgeward.infer import Predictor, runtimes
from edgeward.kit.clock import Clock, SystemClock
from edgeward.kit.errors import EdgewardError, Unsupported, WrongInput
from edgeward.kit.memory import peak_bytes
from edgeward.records.base import Record

_TIMED_RUNS, _TIMED_S, _UNTIMED_RUNS = 50, 2.0, 3


class SelfTestResult(Record):
    """`worst_error` is the largest |got - expected| / (1 + max |expected|); infinite for an answer of another shape."""

    passed: bool
    reason: str
    worst_error: float
    tolerance: float
    sample_count: int
    took_s: float


def threads_for(verified: VerifiedBundle, threads: int | None) -> int:
    """How many threads its model runs on here: `threads`, or as many as it was measured with and there are CPUs."""
    return threads or max(1, min(verified.manifest.thread_count, len(os.sched_getaffinity(0))))


def open_predictor(verified: VerifiedBundle, *, threads: int | None = None) -> Predictor:
    """The bundle's model, loaded, with the steps around it. On as many threads as it was measured with, but
    no more than there are CPUs here, unless `threads` says otherwise.

    Raises Unsupported when its runtime is not installed here or has another version than the bundle allows.
    """
    manifest = verified.manifest
    try:
        runtime = runtimes.load(manifest.runtime)
    except WrongInput as error:
        raise Unsupported(
            f"{verified.reference}: wants the runtime {manifest.runtime!r}, which this edgeward does not know; "
            f"it knows {', '.join(runtimes.names())}",
            hint="pip install --upgrade edgeward",
        ) from error
    if not accepts(manifest.runtime_versions, runtime.version()):
        raise Unsupported(
            f"{verified.reference}: wants {manifest.runtime} {manifest.runtime_versions}, here is {runtime.version()}",
            hint=f"pip install '{manifest.runtime}{manifest.runtime_versions}'",
        )
    if manifest.model.format not in runtime.formats:
        raise Unsupported(f"{verified.reference}: {manifest.runtime} does not run {manifest.model.format} models")
    return Predictor(
        runtime.load(verified.model, threads=threads_for(verified, threads)),
        preprocess=manifest.preprocess,
        postprocess=manifest.postprocess,
        labels=manifest.labels,
        folded=manifest.folded,
    )


def expected_outputs(predictor: Predictor, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The model's outputs for each raw sample of `inputs`, run one by one; samples on the first axis of both."""
    count = len(next(iter(inputs.values())))
    samples = ({name: array[index] for name, array in inputs.items()} for index in range(count))
    batches = list(predictor.outputs_of(samples, batch=1))
    names = [spec.name for spec in predictor.session.outputs]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*batches, strict=True), strict=True)}


class Cost(NamedTuple):
    """What the model takes here: the median of single inferences in ms, and the memory of this whole process at most.
    `wanted_ms` and `wanted_bytes` were measured on such a machine; None where nobody did."""

    p50_ms: float
    peak_memory_bytes: int
    wanted_ms: float | None
    wanted_bytes: int | None


def run_self_test(
    verified: VerifiedBundle,
    predictor: Predictor,
    clock: Clock | None = None,
    *,
    target: Callable[[], str] | None = None,
) -> SelfTestResult:
    """Runs the bundle's self-test on `predictor`. A miss is told in the result and raises nothing.

    `target` names machines like this one; it is asked where the bundle has tolerances of their own for some.
    """
    clock = clock or SystemClock()
    limits = verified.manifest.self_test
    tolerance = limits.tolerance if limits.tolerances is UNSET or target is None else limits.tolerance_on(target())
    inputs, expected = verified.self_test()
    start_s = clock.monotonic_s()
    try:
        got = expected_outputs(predictor, inputs)
    except EdgewardError as fault:
        got, reason = {}, fault.message
    else:
        reason = ""
    took_s = clock.monotonic_s() - start_s
    worst = max((_error(got.get(name), wanted) for name, wanted in expected.items()), default=float("inf"))
    if not reason:
        reason = _judge(worst, tolerance, took_s, limits.deadline_s)
    return SelfTestResult(
        passed=reason == "",
        reason=reason or f"every answer within {tolerance:g}",
        worst_error=worst,
        tolerance=tolerance,
        sample_count=len(next(iter(inputs.values()))),
        took_s=took_s,
    )


def cost_of(verified: VerifiedBundle, predictor: Predictor, target: str, clock: Clock | None = None) -> Cost:
    """Runs the self-test's samples again and again, for two seconds at most, beside what was measured on `target`."""
    clock = clock or SystemClock()
    inputs, _ = verified.self_test()
    count = len(next(iter(inputs.values())))
    samples = [{name: array[index] for name, array in inputs.items()} for index in range(count)]
    for index in range(_UNTIMED_RUNS):
        predictor.answer(samples[index % count])
    taken: list[float] = []
    end_s = clock.monotonic_s() + _TIMED_S
    while len(taken) < _TIMED_RUNS and (not taken or clock.monotonic_s() < end_s):
        taken.append(predictor.answer(samples[len(taken) % count]).infer_ms)
    measured = verified.manifest.measured_on(target)
    return Cost(
        p50_ms=statistics.median(taken),
        peak_memory_bytes=peak_bytes(),
        wanted_ms=None if measured is None else measured.latency.p50_ms,
        wanted_bytes=None if measured is None else measured.peak_memory_bytes,
    )


def _judge(worst: float, tolerance: float, took_s: float, deadline_s: float) -> str:
    """Why the test is missed; empty when it is not."""
    if not worst <= tolerance:
        return f"an answer is off by {worst:.3g}, allowed is {tolerance:g}"
    if took_s > deadline_s:
        return f"it took {took_s:.3g} s, allowed are {deadline_s:g} s"
    return ""


def _error(got: NDArray[Any] | None, expected: NDArray[Any]) -> float:
    if got is not None and got.dtype == object:
        got = got.astype(str)  # as files keep strings
    if got is None or got.shape != expected.shape or got.dtype.kind != expected.dtype.kind:
        return float("inf")
    if expected.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(got, expected) else float("inf")
    wanted = expected.astype(np.float64)
    error = np.abs(got.astype(np.float64) - wanted).max(initial=0.0) / (1 + np.abs(wanted).max(initial=0.0))
    return float(error) if np.isfinite(error) else float("inf")
