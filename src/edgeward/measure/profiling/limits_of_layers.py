"""The least time a layer could take by the measured roofs, and which of them it is."""

from typing import NamedTuple

from edgeward.measure.profiling.layers import Work
from edgeward.records.profile import Bandwidth, Bound, Roofs

_CACHE_SHARE = 2
"""A level holds what is at most so many times what was moved in it when it was measured."""


class Limit(NamedTuple):
    """Milliseconds, and what they are spent on."""

    time_ms: float
    bound: Bound
    compute_ms: float
    memory_ms: float


def limit_of(work: Work, roofs: Roofs, *, model_bytes: int) -> Limit | None:
    """None where the layer's work is not known. `model_bytes`: all weights of the model; they come from the level that
    holds them all, since a run reads each of them once."""
    if work.moved_bytes is None or work.macs is None:
        return None
    compute_ms = _compute_ms(work, roofs)
    activations = work.moved_bytes - work.kept_bytes
    memory_ms = _memory_ms(activations, activations, roofs) + _memory_ms(work.kept_bytes, model_bytes, roofs)
    bound: Bound = "compute" if compute_ms >= memory_ms else "memory"
    return Limit(max(compute_ms, memory_ms), bound, compute_ms, memory_ms)


def peak_for(precision: str, roofs: Roofs) -> float | None:
    """GOP/s of a precision; float16 and others that were not measured count as float32."""
    return roofs.gops_per_s.get(precision) or roofs.gops_per_s.get("float32")


def _compute_ms(work: Work, roofs: Roofs) -> float:
    peak = peak_for(work.precision, roofs)
    return 2 * work.macs / peak / 1e6 if work.macs and peak else 0.0


def _memory_ms(moved: int, resident: int, roofs: Roofs) -> float:
    level = level_of(resident, roofs)
    return moved / level.gb_per_s / 1e6 if level else 0.0


def level_of(resident: int, roofs: Roofs) -> Bandwidth | None:
    """The level of memory that holds so many bytes: the first that was measured with about as many, else the last."""
    levels = roofs.bandwidths
    if not levels:
        return None
    return next((level for level in levels if resident <= _CACHE_SHARE * level.up_to_bytes), levels[-1])
