"""What it cost a frame to be traced."""

from collections.abc import Sequence
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import markers
from edgeward.measure.frame_ring import MARKED, TOOK
from edgeward.records.base import Record

_FEWEST_COMPARED = 10


class Overhead(Record):
    """What tracing cost a frame, slices of time with it and without in turn, the marks and the keeping of records
    included. `noise` is how far the slices without it lie apart: a cost below that is not known well. Frames were
    looked at in one burst of time of `every`, and the marks' cost is spread over all."""

    added_us: float
    share: float
    noise: float
    traced_frames: int
    untraced_frames: int
    every: int = 1


def overhead(
    untraced: Sequence[NDArray[np.int64]], traced: Sequence[NDArray[np.int64]], record_ns: float, every: int = 1
) -> Overhead | None:
    """Of the quicker frames of each slice (their lower quartile), which other work disturbs least. None without
    enough frames. `record_ns` is what a frame that is looked at costs besides; marks tell of themselves."""
    plain, marked = (
        [float(np.quantile(one[:, TOOK], 0.25)) for one in some if len(one)] for some in (untraced, traced)
    )
    counts = sum(map(len, traced)), sum(map(len, untraced))
    if min(counts) < _FEWEST_COMPARED:
        return None
    usual = float(np.median(plain))
    added = max(0.0, float(np.median(marked)) - usual) + record_ns / every
    return Overhead(
        added_us=added / 1e3, share=added / usual, noise=(max(plain) - min(plain)) / usual,
        traced_frames=counts[0], untraced_frames=counts[1], every=every,
    )  # fmt: skip


def marks_ns(traced: Sequence[NDArray[np.int64]]) -> float:
    """What the two marks of a frame took, the median."""
    taken = [int(value) for one in traced for value in one[:, MARKED]]
    return float(np.median(taken)) if taken else 0.0


def record_ns(what: int, runs: int = 500) -> float:
    """What it costs here to record a frame with `what`, on top of an unasked one."""
    took = []
    for asked in (0, what) * 3:
        markers.WORDS[markers.ASKED] = asked
        began = perf_counter_ns()
        for _ in range(runs):
            with markers.Frame():
                pass
        took.append(perf_counter_ns() - began)
    markers.WORDS[markers.ASKED] = 0
    return max(0.0, min(took[1::2]) - min(took[::2])) / runs
