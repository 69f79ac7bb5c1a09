"""Output tensors to the answer: classes, and boxes."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import exp, inf, isnan, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer.answer import Box, Class
from edgeward.infer.geometry import Placement
from edgeward.kit.errors import Failed, WrongInput
from edgeward.records.model import Anomaly, Classify, Detect, Keypoints, Postprocess, Segment, TensorSpec

_FEW_CLASSES = 32
_NO_NUMBER = "the model's answer holds NaN, which is no box and no score"
_TURNED = [1, 0, 3, 2]
"""The order that brings y, x to x, y, in corners and in sizes."""
_SURE = 20.0
"""The sigmoid of it is 1, but for 2 parts in 10⁹."""
_MOST_CONSIDERED = 1000
"""So many boxes, best first, are looked at for overlaps: one image's NMS stays within milliseconds."""


def softmax(scores: NDArray[Any]) -> NDArray[np.float32]:
    """Probabilities along the last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True), dtype=np.float32)
    return shifted / shifted.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]


Classifier = Callable[[NDArray[Any]], tuple[Class, ...]]
"""From the first output of one sample (no batch axis) to its classes, best first."""


def classifier(steps: Postprocess, labels: Sequence[str]) -> Classifier | None:
    """How `steps` name classes; None where they do not."""
    step = next((step for step in reversed(steps) if isinstance(step, Classify)), None)
    if step is None:
        return None
    softmaxed, top = step.softmax, step.top
    if top == 1:
        return partial(_likeliest, labels=labels) if softmaxed else _largest(labels)
    return lambda scores: _best(softmax(scores.reshape(-1)) if softmaxed else scores.reshape(-1), top, labels)


def classes_of(steps: Postprocess, scores: NDArray[Any], labels: Sequence[str]) -> tuple[Class, ...]:
    """The classes that `steps` name in the first output of one sample (no batch axis), best first."""
    named = classifier(steps, labels)
    return () if named is None else named(scores)


def _largest(labels: Sequence[str]) -> Classifier:
    count = len(labels)

    def name(scores: NDArray[Any]) -> tuple[Class, ...]:
        index = int(scores.argmax())
        return (Class(labels[index] if index < count else str(index), index, float(scores.item(index))),)

    return name


def _likeliest(scores: NDArray[Any], labels: Sequence[str]) -> tuple[Class, ...]:
    """The best class and its probability: a softmax of which one value is wanted. For a few classes NumPy's calls would
    take longer than the sums."""
    if scores.size > _FEW_CLASSES:
        index = int(scores.argmax())
        return (_named(index, 1 / float(np.exp(scores - scores.item(index)).sum()), labels),)
    values: list[float] = scores.ravel().tolist()
    best = max(values)
    return (_named(values.index(best), 1 / sum([exp(value - best) for value in values]), labels),)


def _best(scores: NDArray[Any], count: int, labels: Sequence[str]) -> tuple[Class, ...]:
    return tuple(_named(index, scores[index], labels) for index in np.argsort(-scores, kind="stable")[:count].tolist())


def _named(index: int, score: float, labels: Sequence[str]) -> Class:
    return Class(labels[index] if index < len(labels) else str(index), index, float(score))


def boxes_of(
    step: Detect, outputs: Sequence[NDArray[Any]], labels: Sequence[str], placed: Placement, size: tuple[int, int]
) -> tuple[Box, ...]:
    """The objects in one sample's outputs (no batch axis), best first, in a raw image of this height and width.

    Raises what `detections_of` raises.
    """
    rows, indices = _found(step, outputs, height=placed.height, width=placed.width)
    rows = np.maximum(placed.to_raw(rows.T).T, 0.0)  # a score is none below
    np.minimum(rows, _edges(size, inf), out=rows)
    lefts, tops, rights, bottoms, scores = rows.round(4).tolist()
    numbers, known = indices.tolist(), len(labels)
    names = [labels[number] if number < known else str(number) for number in numbers]
    return tuple(map(Box, names, numbers, scores, lefts, tops, rights, bottoms))


@lru_cache(maxsize=16)
def _edges(size: tuple[int, int], *more: float) -> NDArray[np.float64]:
    """How far the sides of a box reach in an image of this height and width, and `more` numbers, as a column."""
    return np.array((size[1], size[0], size[1], size[0], *more), np.float64)[:, None]


def detections_of(step: Detect, outputs: Sequence[NDArray[Any]], *, height: int, width: int) -> NDArray[np.float32]:
    """x1, y1, x2, y2, score, class of each box in one sample's outputs (no batch axis), best first.

    In pixels of an input of `height` × `width`. Raises WrongInput where the outputs do not have the step's layout,
    Failed where they hold NaN.
    """
    rows, labels = _found(step, outputs, height=height, width=width)
    return np.column_stack([rows.T, labels]).astype(np.float32)


def _found(
    step: Detect, outputs: Sequence[NDArray[Any]], *, height: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Left, top, right, bottom and score (5 × boxes), and class of each box that is left, best first."""
    boxes, scores = _layout(step, outputs)
    alone = step.sigmoid and not (step.objectness or step.softmax)
    by_logit = alone and scores.dtype.kind == "f" and step.layout != "selected"
    if not by_logit:
        scores = _activated(step, scores)
    scores = _of_classes(step, scores)
    least = max(step.score_threshold, 1e-9)
    places, labels, chosen = _above(scores, _floor(least, scores.dtype.char, sigmoid=by_logit))
    if boxes.dtype.kind == "f" and isnan(boxes.max(initial=-inf)):
        raise Failed(_NO_NUMBER)
    if by_logit:
        chosen = _sigmoid(chosen)
        enough = chosen >= least
        places, labels, chosen = places[enough], labels[enough], chosen[enough]
    if not len(places):
        return np.zeros((5, 0)), labels
    order = (-chosen).argsort(kind="stable")[:_MOST_CONSIDERED]
    places, labels, chosen = places[order], labels[order], chosen[order]
    rows = _rows(step, _decoded(step, boxes, places), chosen, (height, width))
    if step.layout == "selected":
        return rows[:, : step.most], labels[: step.most]
    kept = np.array(kept_of(rows[:4], labels, iou_threshold=step.iou_threshold, most=step.most), np.intp)
    return rows[:, kept], labels[kept]


def _above(scores: NDArray[Any], floor: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Anchor, class and score of all that reach `floor`, anchor by anchor. Raises Failed where one is NaN."""
    best = scores.max(axis=1, initial=-inf)
    if isnan(best.max(initial=-inf)):
        raise Failed(_NO_NUMBER)
    (hot,) = (best >= floor).nonzero()  # few of thousands: the rest is not looked at again
    few = scores[hot]
    rows, labels = (few >= floor).nonzero()
    return hot[rows], labels, few[rows, labels].astype(np.float64)


@lru_cache(maxsize=16)
def _floor(least: float, kind: str, *, sigmoid: bool) -> Any:
    """The smallest number of this type that is `least` or more, or a little below what has `least` for a sigmoid."""
    if sigmoid:
        least = log(least / (1 - least)) - 1e-3 if least < 1 - 1e-9 else _SURE
    floor = np.dtype(kind).type(least)
    return floor if float(floor) >= least else np.nextafter(floor, floor.dtype.type(inf))


def boxes_and_scores(step: Detect, outputs: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Anchors × 4 as the model gives them, and scores of anchors × classes. Raises WrongInput for another layout."""
    boxes, scores = _layout(step, outputs)
    return boxes.astype(np.float64), _of_classes(step, _activated(step, scores)).astype(np.float64)


def _of_classes(step: Detect, scores: NDArray[Any]) -> NDArray[Any]:
    return scores[:, 1:] if step.background and step.layout != "selected" else scores


def _activated(step: Detect, scores: NDArray[Any]) -> NDArray[Any]:
    """Scores in the range that the step says; as they are where it says nothing."""
    if step.layout == "selected" or not (step.sigmoid or step.objectness or step.softmax):
        return scores if scores.dtype.kind == "f" else scores.astype(np.float64)
    scores = scores.astype(np.float64)
    if step.sigmoid:
        scores = _sigmoid(scores)
    if step.objectness:
        scores = scores[:, :1] * scores[:, 1:]
    if step.softmax:
        scores = softmax(scores).astype(np.float64)
    return scores


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(values, -60, 60)))


def _layout(step: Detect, outputs: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Boxes and scores as they stand in the outputs, anchors first."""
    shapes = " and ".join("x".join(map(str, output.shape)) for output in outputs)
    if step.layout == "selected":
        boxes, scores = _selected(outputs[0], shapes)
    elif step.layout == "pair":
        boxes, scores = _pair(outputs, shapes)
    else:
        head = outputs[0] if step.layout == "rows" else outputs[0].T
        least = 6 if step.objectness else 5
        if head.ndim != 2 or head.shape[1] < least:
            wanted = f"{least - 1} + classes numbers"
            raise WrongInput(f"detections in {step.layout} are {wanted} for each anchor; the output is {shapes}")
        boxes, scores = head[:, :4], head[:, 4:]
    if step.priors and len(priors_of(step)) != len(boxes):
        raise WrongInput(f"there are {len(priors_of(step))} priors, the output has {len(boxes)} boxes")
    return boxes, scores


def _pair(outputs: Sequence[NDArray[Any]], shapes: str) -> tuple[NDArray[Any], NDArray[Any]]:
    if len(outputs) < 2 or any(output.ndim != 2 for output in outputs[:2]) or len(outputs[0]) != len(outputs[1]):
        raise WrongInput(f"a pair of boxes and scores is anchors x 4 and anchors x classes; the outputs are {shapes}")
    boxes, scores = (outputs[0], outputs[1]) if outputs[0].shape[1] == 4 else (outputs[1], outputs[0])
    if boxes.shape[1] != 4:
        raise WrongInput(f"none of the two outputs, {shapes}, is anchors x 4")
    return boxes, scores


def _selected(rows: NDArray[Any], shapes: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The score of each row stands at its class, all others are none."""
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise WrongInput(f"selected detections are boxes x 6 (box, score, class number); the output is {shapes}")
    if np.isnan(rows).any():
        raise Failed(_NO_NUMBER)
    labels = rows[:, 5].astype(np.int64)
    real = labels >= 0
    scores = np.zeros((len(rows), int(labels.max(initial=0)) + 1))
    scores[real, labels[real]] = rows[real, 4]
    return rows[:, :4].astype(np.float64), scores


def _decoded(step: Detect, boxes: NDArray[Any], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The boxes at these places of the head, a column each; changes of priors are made middles and sizes, in shares of
    the input."""
    chosen = np.ascontiguousarray(boxes[places].T, np.float64)
    if not step.priors:
        return chosen
    turned = step.box_format == "cycxhw"
    changes = (chosen[_TURNED] if turned else chosen) * np.asarray(step.variances)[:, None]
    middles, sizes = priors_of(step)[places].T.reshape(2, 2, -1)
    decoded = np.concatenate([middles + changes[:2] * sizes, sizes * np.exp(np.clip(changes[2:], -60, 60))])
    return decoded[_TURNED] if turned else decoded


@lru_cache(maxsize=16)
def priors_of(step: Detect) -> NDArray[np.float64]:
    """Middle x and y, width and height of every prior, in shares of the input."""
    if step.box_format not in ("cxcywh", "cycxhw"):
        raise WrongInput(f"detect: with priors, boxes are middles and sizes (cxcywh, cycxhw), not {step.box_format}")
    levels = []
    for level in step.priors:
        rows, columns, kinds = np.mgrid[: level.rows, : level.columns, : len(level.boxes)].reshape(3, -1)
        middles = np.stack([(columns + 0.5) / level.columns, (rows + 0.5) / level.rows], axis=1)
        levels.append(np.concatenate([middles, np.asarray(level.boxes)[kinds]], axis=1))
    return np.concatenate(levels)


def class_count(steps: Postprocess, outputs: Sequence[TensorSpec]) -> int | None:
    """So many classes a model with these outputs (shapes with a batch axis) tells apart; None where that is free."""
    step = next((step for step in steps if isinstance(step, Detect)), None)
    first = outputs[0].shape
    if step is None:
        if any(isinstance(step, Segment | Keypoints | Anomaly) for step in steps):
            return None
        return _whole(first[-1:], 0)
    if step.layout == "selected":
        return None
    none = int(step.background)
    if step.layout == "pair":
        scores = next((one.shape for one in outputs[:2] if one.shape[-1:] != (4,)), ()) if len(outputs) > 1 else ()
        return _whole(scores[-1:], none)
    return _whole(first[-1:] if step.layout == "rows" else first[-2:-1], 4 + step.objectness + none)


def _whole(dims: tuple[int | str, ...], less: int) -> int | None:
    return dims[0] - less if dims and isinstance(dims[0], int) else None


def _rows(
    step: Detect, boxes: NDArray[np.float64], scores: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Left, top, right and bottom of boxes in pixels, and their scores: a column for each box."""
    if step.box_format in ("yxyx", "cycxhw"):
        boxes = boxes[_TURNED]
    rows = np.empty((5, len(scores)))
    sides, rows[4] = rows[:4], scores
    if step.box_format in ("cxcywh", "cycxhw"):
        halves = boxes[2:] / 2
        with np.errstate(invalid="ignore"):  # an endless box has no sides, and overlaps none
            np.subtract(boxes[:2], halves, out=sides[:2])
            np.add(boxes[:2], halves, out=sides[2:])
    else:
        sides[:] = boxes
    if step.normalized or step.priors:
        sides *= _edges(size)
    return rows


def overlaps(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of every box of `one` (rows) with every box of `other` (columns); boxes are corners."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:4], other[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(axis=2, dtype=np.float64)
    areas = [np.clip(boxes[:, 2:4] - boxes[:, :2], 0, None).prod(axis=1, dtype=np.float64) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)  # type: ignore[no-any-return]


def kept_of(sides: NDArray[np.float64], labels: NDArray[Any], *, iou_threshold: float, most: int) -> list[int]:
    """The places of boxes (a column each, best first) that no kept, better box of their class overlaps by more than
    the threshold."""
    # Few boxes are compared, each with the kept ones of its class: plain numbers are faster here than arrays.
    kept: list[int] = []
    of_class: defaultdict[int, list[tuple[float, float, float, float, float]]] = defaultdict(list)
    share = iou_threshold / (1 + iou_threshold)  # overlap > threshold × union, where union = areas - overlap
    for place, (left, top, right, bottom, label) in enumerate(zip(*sides.tolist(), labels.tolist(), strict=True)):
        wide, high = right - left, bottom - top  # NaN of an endless box stays NaN: it overlaps none
        need = share * (0.0 if wide < 0 else wide) * (0.0 if high < 0 else high)
        better = of_class[label]
        for low_x, low_y, high_x, high_y, other in better:
            # what both share, narrowed side by side: most boxes have nothing in common, and that shows early
            if left > low_x:
                low_x = left
            if right < high_x:
                high_x = right
            if high_x > low_x:
                if top > low_y:
                    low_y = top
                if bottom < high_y:
                    high_y = bottom
                if high_y > low_y and (high_x - low_x) * (high_y - low_y) > need + other:
                    break
        else:
            better.append((left, top, right, bottom, need))
            kept.append(place)
            if len(kept) == most:
                break
    return kept
