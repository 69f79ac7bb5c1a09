"""Threads × streams: which setting answers soonest, and which answers most."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
from msgspec.structs import replace

from edgeward.kit.errors import EdgewardError
from edgeward.kit.process import Partner
from edgeward.measure.bench import WORKERS, answer_of
from edgeward.measure.jobs import Contender, Drive, Driven, Load, Ready, encode, unpacked
from edgeward.records.bench import Sweep, SweepPoint

_TIE = 0.02
"""A setting that gains less is not worth its threads."""


def settings(cpus: int) -> list[tuple[int, int]]:
    """Threads and streams, both in powers of two up to the CPUs, at most two threads for each CPU in all."""
    steps = [1]
    while steps[-1] * 2 < cpus:
        steps.append(steps[-1] * 2)
    if cpus > 1:
        steps.append(cpus)
    return [(threads, streams) for threads in steps for streams in steps if threads * streams <= 2 * cpus]


def best(points: Sequence[SweepPoint]) -> Sweep:
    """The fastest answer and the most answers; where two are within 2 %, the one with fewer threads in all."""
    good = sorted((one for one in points if one.p50_ms), key=lambda one: (one.threads * one.streams, one.streams))
    if not good:
        return Sweep(points=tuple(points))
    least = min(one.p50_ms or np.inf for one in good)
    most = max(one.throughput_per_s or 0.0 for one in good)
    return Sweep(
        points=tuple(points),
        fastest=next(one for one in good if (one.p50_ms or np.inf) <= least * (1 + _TIE)),
        most=next(one for one in good if (one.throughput_per_s or 0.0) >= most * (1 - _TIE)),
    )


def run_sweep(
    contender: Contender, *, cpus: int, seconds: float, seed: int, tell: Callable[[str, float], None]
) -> Sweep:
    """Every setting for `seconds`, its streams at the same time, each in a process of its own."""
    chosen = settings(cpus)
    points = []
    for place, (threads, streams) in enumerate(chosen):
        tell(f"{threads} threads × {streams} streams", place / len(chosen))
        setting = Contender(contender.file, contender.runtime, threads, contender.feeds)
        try:
            points.append(_point(setting, streams, seconds, seed))
        except EdgewardError as error:
            points.append(SweepPoint(threads=threads, streams=streams, error=error.message))
    tell("swept", 1.0)
    return best(points)


def _point(contender: Contender, streams: int, seconds: float, seed: int) -> SweepPoint:
    with ExitStack() as stack:
        partners: list[Partner] = [stack.enter_context(WORKERS.take()) for _ in range(streams)]
        for partner in partners:
            answer_of(partner.ask(encode(Load(contender)), limit_s=120), Ready)
        for warm in (min(0.2, seconds / 4), seconds):
            for place, partner in enumerate(partners):
                partner.tell(encode(Drive(warm, seed + place)))
            told = [answer_of(partner.hear(limit_s=600 + 10 * warm), Driven) for partner in partners]
    latencies = [unpacked(one.latencies)["ms"] for one in told]
    p50, p99 = (float(value) for value in np.quantile(np.concatenate(latencies), (0.5, 0.99)))
    per_s = sum(len(mine) / one.seconds for mine, one in zip(latencies, told, strict=True))
    return replace(
        SweepPoint(threads=contender.threads, streams=streams), p50_ms=p50, p99_ms=p99, throughput_per_s=per_s
    )
