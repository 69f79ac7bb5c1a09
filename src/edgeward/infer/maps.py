"""Masks, named points and anomaly scores out of a model's outputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import answer as told
from edgeward.infer.geometry import Placement
from edgeward.kit.errors import Failed, WrongInput
from edgeward.records.model import Anomaly, Keypoints, Segment

Array = NDArray[Any]
UNSEEN = -1
"""The class of pixels that no step left in the model's input."""


def mask_of(step: Segment, output: Array, placed: Placement, size: tuple[int, int]) -> NDArray[np.int16]:
    """The class of each pixel of a raw image of this height and width. Raises WrongInput for another layout."""
    cells = _cells(step, output)
    rows, columns = (
        _under(raw, placed.scale[1 - axis], placed.offset[1 - axis], whole, count)
        for axis, (raw, whole, count) in enumerate(zip(size, (placed.height, placed.width), cells.shape, strict=True))
    )
    seen = cells[np.maximum(rows, 0)[:, None], np.maximum(columns, 0)[None]]
    return np.where((rows >= 0)[:, None] & (columns >= 0)[None], seen, UNSEEN).astype(np.int16)


def _under(raw: int, scale: float, offset: float, whole: int, count: int) -> NDArray[np.int64]:
    """Along one axis, the cell (of `count` in an input of `whole`) under the middle of each pixel, -1 outside."""
    places = (np.arange(raw) + 0.5) * scale + offset
    return np.where((places >= 0) & (places < whole), np.floor(places * count / whole), -1).astype(np.int64)


def _cells(step: Segment, output: Array) -> NDArray[np.int64]:
    if output.dtype.kind == "f" and np.isnan(output).any():
        raise Failed("the model's answer holds NaN, which is no class")
    wanted = {"planes": "classes x height x width", "pixels": "height x width x classes", "numbers": "height x width"}
    if output.ndim != (2 if step.layout == "numbers" else 3):
        shape = "x".join(map(str, output.shape))
        raise WrongInput(f"a map of classes as {step.layout} is {wanted[step.layout]}; the output is {shape}")
    if step.layout == "numbers":
        return output.astype(np.int64)
    planes = output if step.layout == "planes" else output.transpose(2, 0, 1)
    if len(planes) == 1:
        return np.asarray(planes[0] >= step.threshold, np.int64)
    return np.asarray(planes.argmax(axis=0), np.int64)


def segments_of(step: Segment, mask: NDArray[np.int16], labels: Sequence[str]) -> tuple[told.Segment, ...]:
    """The classes in the mask, largest first."""
    indices, areas = np.unique(mask[(mask != UNSEEN) & (mask != step.background)], return_counts=True)
    found = [
        told.Segment(_name(labels, index), index, area, round(area / mask.size, 6))
        for index, area in zip(indices.tolist(), areas.tolist(), strict=True)
    ]
    return tuple(sorted(found, key=lambda one: -one.area))


def keypoints_of(step: Keypoints, output: Array, labels: Sequence[str], placed: Placement) -> tuple[told.KeyPoint, ...]:
    """The points that are seen, in the model's order. Raises WrongInput for another form."""
    if np.isnan(output).any():
        raise Failed("the model's answer holds NaN, which is no point")
    places, scores = _from_maps(output, placed) if step.form == "heat_maps" else _direct(step, output, placed)
    raw = placed.to_raw(np.concatenate([places, places], axis=1)).round(4).tolist()
    return tuple(
        told.KeyPoint(_name(labels, index), index, round(score, 4), x, y)
        for index, ((x, y, *_), score) in enumerate(zip(raw, scores.tolist(), strict=True))
        if score >= step.score_threshold
    )


def _from_maps(output: Array, placed: Placement) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if output.ndim != 3:
        raise WrongInput(f"heat maps are points x height x width; the output is {'x'.join(map(str, output.shape))}")
    count, height, width = output.shape
    best = output.reshape(count, -1).argmax(axis=1)
    cells = np.stack([best % width, best // width], axis=1)
    sizes = np.array([placed.width / width, placed.height / height])
    return (cells + 0.5) * sizes, output.reshape(count, -1).max(axis=1).astype(np.float64)


def _direct(step: Keypoints, output: Array, placed: Placement) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if output.ndim < 2 or output.shape[-1] not in (2, 3):
        shape = "x".join(map(str, output.shape))
        raise WrongInput(f"key points are points x 2 or x 3 (place, score); the output is {shape}")
    rows = output.reshape(-1, output.shape[-1]).astype(np.float64)
    places = rows[:, [1, 0]] if step.order == "yx" else rows[:, :2]
    if step.normalized:
        places = places * (placed.width, placed.height)
    return places, rows[:, 2] if rows.shape[1] == 3 else np.ones(len(rows))


def verdict_of(step: Anomaly, output: Array, entered: Array | None) -> told.Verdict:
    """`entered` is the model's input after all preprocessing. Raises WrongInput where it cannot be compared."""
    if step.of == "output" or entered is None:
        if output.size != 1:
            raise WrongInput(f"an anomaly score is one number; the output has {output.size}")
        score = float(output.reshape(-1)[0])
    else:
        if entered.size != output.size:
            raise WrongInput(
                f"a reconstruction is as large as what it is of: {entered.size} numbers; it has {output.size}"
            )
        off = output.reshape(-1).astype(np.float64) - entered.reshape(-1)
        score = float(np.mean(off**2) if step.of == "mse" else np.mean(np.abs(off)))
    return told.Verdict(score, step.threshold, score >= step.threshold)


def _name(labels: Sequence[str], index: int) -> str:
    return labels[index] if 0 <= index < len(labels) else str(index)
