"""Objects that keep their number from answer to answer: constant velocity, two rounds of pairing by overlap.

After SORT (Bewley et al. 2016) and ByteTrack (Zhang et al. 2022), from their papers. Middle and size of a box are four
numbers with four velocities; no noise couples them, so that the filter is four small ones.
"""

from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeward.infer.answer import Answer, Box
from edgeward.infer.assignment import best_pairs
from edgeward.infer.postprocess import overlaps
from edgeward.records.stream import Track

Array = NDArray[Any]

_WEAK_IOU = 0.5
"""A weak box is another object, or none, unless it lies where the track should be."""
_PLACE_NOISE, _SPEED_NOISE = 1 / 20, 1 / 160
"""Per answer, in sizes of the box."""


class Tracks(Struct, frozen=True):
    """Every track there is, one row each: middle x, middle y, width, height (`place`), what they change from answer to
    answer (`speed`), and how sure that is (variances `pp` and `vv`, covariance `pv`). A track has number 0 until it is
    confirmed."""

    place: Array
    speed: Array
    pp: Array
    pv: Array
    vv: Array
    numbers: NDArray[np.int64]
    labels: NDArray[np.int64]
    seen: NDArray[np.int64]
    missing: NDArray[np.int64]
    next_number: int = 1


def no_tracks() -> Tracks:
    four, one = np.zeros((0, 4)), np.zeros(0, np.int64)
    return Tracks(four, four, four, four, four, one, one, one, one)


def track(step: Track, tracks: Tracks, answer: Answer, ticks: float) -> tuple[Tracks, Answer]:
    """Numbers the answer's boxes. `ticks` is how long it was since the last answer, in usual distances of answers."""
    boxes = answer.boxes or ()
    measured = np.array([_middle(box) for box in boxes]).reshape(-1, 4)
    labels = np.array([box.index for box in boxes], np.int64)
    strong = np.array([box.score >= step.score_threshold for box in boxes], bool)
    tracks = _moved_on(tracks, ticks)
    pairs = _paired(step, tracks, measured, labels, strong)
    rows, columns = (np.array([pair[axis] for pair in pairs], np.int64) for axis in (0, 1))
    tracks = _corrected(tracks, rows, measured[columns])
    begun = np.setdiff1d(np.flatnonzero(strong), columns)
    origin = np.concatenate([_box_of(len(tracks.numbers), rows, columns), begun])
    tracks = _numbered(step, _joined(tracks, measured[begun], labels[begun]))
    kept = (tracks.missing == 0) | ((tracks.numbers > 0) & (tracks.missing < step.keep))
    told = {int(box): int(number) for box, number in zip(origin, tracks.numbers, strict=True) if box >= 0 and number}
    alive = tuple(sorted(tracks.numbers[kept & (tracks.numbers > 0)].tolist()))
    numbered = tuple(replace(box, track=told.get(place)) for place, box in enumerate(boxes))
    return _chosen(tracks, kept), replace(answer, boxes=numbered, alive=alive)


def _middle(box: Box) -> tuple[float, float, float, float]:
    return (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2, box.x2 - box.x1, box.y2 - box.y1


def _corners(places: Array) -> Array:
    half = np.maximum(places[:, 2:], 0) / 2
    return np.concatenate([places[:, :2] - half, places[:, :2] + half], axis=1)


def _noise(places: Array, share: float) -> Array:
    """The variance of each number: a share of the box's size."""
    size = np.maximum(places[:, 2:].mean(axis=1, keepdims=True), 1.0)
    return np.repeat((share * size) ** 2, 4, axis=1)


def _moved_on(tracks: Tracks, ticks: float) -> Tracks:
    """Where they should be now."""
    place = tracks.place + ticks * tracks.speed
    pp = tracks.pp + ticks * (2 * tracks.pv + ticks * tracks.vv) + ticks * _noise(tracks.place, _PLACE_NOISE)
    vv = tracks.vv + ticks * _noise(tracks.place, _SPEED_NOISE)
    return replace(tracks, place=place, pp=pp, pv=tracks.pv + ticks * tracks.vv, vv=vv)


def _paired(
    step: Track, tracks: Tracks, measured: Array, labels: NDArray[np.int64], strong: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """Rows of tracks with places of boxes: strong boxes first, then weak ones for what was there the last time."""
    weights = overlaps(_corners(tracks.place), _corners(measured)) * (tracks.labels[:, None] == labels[None])
    first = best_pairs(weights * strong[None], step.match_iou)
    left = tracks.missing == 0
    left[[row for row, _ in first]] = False
    return first + best_pairs(weights * left[:, None] * ~strong[None], max(step.match_iou, _WEAK_IOU))


def _corrected(tracks: Tracks, rows: NDArray[np.int64], measured: Array) -> Tracks:
    """By what was measured of the tracks in these rows; the others were missing once more."""
    place, speed, pp, pv, vv = (array.copy() for array in (tracks.place, tracks.speed, tracks.pp, tracks.pv, tracks.vv))
    seen, missing = tracks.seen.copy(), tracks.missing + 1
    spread = pp[rows] + _noise(measured, _PLACE_NOISE)
    of_place, of_speed, off = pp[rows] / spread, pv[rows] / spread, measured - place[rows]
    place[rows] += of_place * off
    speed[rows] += of_speed * off
    vv[rows] -= of_speed * pv[rows]
    pp[rows] *= 1 - of_place
    pv[rows] *= 1 - of_place
    seen[rows] += 1
    missing[rows] = 0
    return replace(tracks, place=place, speed=speed, pp=pp, pv=pv, vv=vv, seen=seen, missing=missing)


def _box_of(count: int, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The box of each track, -1 where there is none."""
    found = np.full(count, -1)
    found[rows] = columns
    return found


def _joined(tracks: Tracks, measured: Array, labels: NDArray[np.int64]) -> Tracks:
    none = np.zeros_like(measured)
    new = Tracks(
        measured, none, 4 * _noise(measured, _PLACE_NOISE), none, 100 * _noise(measured, _SPEED_NOISE),
        np.zeros(len(measured), np.int64), labels, np.ones(len(measured), np.int64), np.zeros(len(measured), np.int64),
    )  # fmt: skip
    joined = {name: np.concatenate([getattr(tracks, name), getattr(new, name)]) for name in _ARRAYS}
    return replace(tracks, **joined)


def _numbered(step: Track, tracks: Tracks) -> Tracks:
    """Those that were seen often enough get the next numbers."""
    numbers, number = tracks.numbers.copy(), tracks.next_number
    for row in np.flatnonzero((numbers == 0) & (tracks.seen >= step.confirm) & (tracks.missing == 0)):
        numbers[row] = number
        number += 1
    return replace(tracks, numbers=numbers, next_number=number)


def _chosen(tracks: Tracks, kept: NDArray[np.bool_]) -> Tracks:
    return replace(tracks, **{name: getattr(tracks, name)[kept] for name in _ARRAYS})


_ARRAYS = tuple(name for name in Tracks.__struct_fields__ if name != "next_number")
