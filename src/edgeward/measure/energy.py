"""What was spent, from what a meter said: counters and power samples → energy per inference. Rules only.

A counter (µJ) grows and starts again from zero at its range; a sampler (mW) says power at a moment. A sample that was
lost is None. Every moment is in seconds of one steady clock.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from edgeward.kit.errors import Unsupported
from edgeward.records.candidate import Energy

LEAST_SAMPLES = 20
_MOST_W = 1000.0
"""No processor that we measure draws more: a counter that could go round once in a gap at this power is ambiguous."""
_LONGEST_GAP_SHARE = 0.1
_SHARE_OF_IDLE = 0.02


class Sample(NamedTuple):
    at_s: float
    value: float | None


class Meter(NamedTuple):
    """`range_uj` is where a counter starts again; None for a sampler."""

    source: str
    scope: str
    kind: Literal["counter", "power"]
    range_uj: float | None = None


class Spent(NamedTuple):
    """`quantum_mj` is the smallest step of a counter (0 for a sampler), `updates` how often the value changed."""

    energy_mj: float
    seconds: float
    samples: int
    dropped: int
    quantum_mj: float
    updates: int

    @property
    def power_mw(self) -> float:
        return self.energy_mj / self.seconds


def spent(meter: Meter, samples: Sequence[Sample], most_w: float = _MOST_W) -> Spent:
    """The energy between the first and the last sample that was not lost.

    Raises Unsupported where the meter does not resolve it: too few samples, a gap that hides what happened in it, or
    a counter that did not move often enough.
    """
    kept = [(one.at_s, one.value) for one in samples if one.value is not None]
    dropped = len(samples) - len(kept)
    if len(kept) < LEAST_SAMPLES:
        raise Unsupported(f"{meter.source}: {len(kept)} samples in the window, wanted {LEAST_SAMPLES} or more")
    steps = list(pairwise(kept))
    seconds = kept[-1][0] - kept[0][0]
    gap_s = max(after[0] - before[0] for before, after in steps)
    if meter.kind == "counter":
        return _counted(meter, steps, seconds, gap_s, dropped, most_w)
    if gap_s > _LONGEST_GAP_SHARE * seconds:
        raise Unsupported(
            f"{meter.source}: no sample for {gap_s:.2g} s of {seconds:.2g} s; power in between is unknown"
        )
    energy = sum((a[1] + b[1]) / 2 * (b[0] - a[0]) for a, b in steps)
    updates = sum(a[1] != b[1] for a, b in steps)
    return Spent(energy, seconds, len(kept), dropped, 0.0, updates)


def _counted(
    meter: Meter,
    steps: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    seconds: float,
    gap_s: float,
    dropped: int,
    most_w: float,
) -> Spent:
    if meter.range_uj is not None and gap_s * most_w * 1e6 >= meter.range_uj:
        raise Unsupported(
            f"{meter.source}: no sample for {gap_s:.2g} s, in which its counter may have gone round more than once"
        )
    grown = [_grown(meter, after[1] - before[1]) for before, after in steps]
    moved = [step for step in grown if step > 0]
    total, quantum = sum(grown), min(moved, default=0.0)
    if len(moved) < LEAST_SAMPLES:
        raise Unsupported(
            f"{meter.source}: its counter changed {len(moved)} times in {seconds:.2g} s, wanted {LEAST_SAMPLES}",
            hint="measure for longer",
        )
    return Spent(total / 1000, seconds, len(steps) + 1, dropped, quantum / 1000, len(moved))


def _grown(meter: Meter, difference: float) -> float:
    if difference >= 0:
        return difference
    if meter.range_uj is None:
        raise Unsupported(f"{meter.source}: its counter fell, and the range at which it starts again is not told")
    return difference % meter.range_uj


def per_inference(meter: Meter, work: Spent, idle: Sequence[Spent], inferences: int) -> Energy:
    """Gross and net energy of one inference; `idle` was measured before and after.

    Net is None where it cannot be told from what the idle power itself varies by. Raises Unsupported where all the
    work is too little for the meter's steps.
    """
    if work.energy_mj <= 0 or inferences < 1:
        raise Unsupported(f"{meter.source}: it told no energy at all while the model ran")
    if work.updates < LEAST_SAMPLES:
        raise Unsupported(
            f"{meter.source}: its value changed {work.updates} times while the model ran, so it is too slow"
        )
    idle_mw = sum(one.power_mw for one in idle) / len(idle)
    drift_mw = max(one.power_mw for one in idle) - min(one.power_mw for one in idle)
    above_mw = work.power_mw - idle_mw
    is_told = above_mw > max(drift_mw, _SHARE_OF_IDLE * idle_mw)
    gross = work.energy_mj / inferences
    return Energy(
        gross_mj=gross,
        net_mj=above_mw * work.seconds / inferences if is_told else None,
        idle_mw=idle_mw,
        idle_drift_mw=drift_mw,
        power_mw=work.power_mw,
        source=meter.source,
        scope=meter.scope,
        sampling_hz=work.samples / work.seconds,
        seconds=work.seconds,
        inferences=inferences,
        dropped=work.dropped,
        note="" if is_told else "net is not told: the power above idle is no more than what idle itself varies by",
    )
