"""Average precision of detections as COCO defines it, prepared once and then scored for any weights of the images.

Detections are images × most × 6 (x1, y1, x2, y2, score, class), true boxes images × most × 5 (x1, y1, x2, y2,
class), both in pixels; rows of class -1 are empty.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.infer.postprocess import overlaps
from edgeward.measure.statistics import Statistic

COCO_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
_MOST_PER_IMAGE = 100
_RECALL_STEPS = 100
_WEIGHTS_AT_ONCE = 4_000_000


class _Class(NamedTuple):
    """One class's detections, best score first: the image of each, and which are true by threshold; its true boxes."""

    images: NDArray[np.int64]
    hits: NDArray[np.bool_]
    boxes_per_image: NDArray[np.float64]


def average_precision(outputs: NDArray[Any], targets: NDArray[Any], thresholds: tuple[float, ...]) -> Statistic:
    """The mean over classes with true boxes, and over `thresholds` of overlap, of the average precision.

    Interpolated at 101 recalls. What it gives takes weights of the images (a bootstrap's draws, or ones).
    """
    found = [_matched(outputs, targets, label, thresholds) for label in _labels_of(targets)]

    def scores(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        if not found:
            return np.full(len(weights), np.nan)
        each = np.stack([_precision_in_parts(one, weights) for one in found])
        known = np.isfinite(each)
        return np.divide(  # type: ignore[no-any-return]
            np.where(known, each, 0).sum(axis=0), known.sum(axis=0),
            out=np.full(len(weights), np.nan), where=known.any(axis=0),
        )  # fmt: skip

    return scores


def _labels_of(targets: NDArray[Any]) -> list[float]:
    labels = np.unique(targets[..., 4])
    return labels[labels >= 0].tolist()  # type: ignore[no-any-return]


def _matched(outputs: NDArray[Any], targets: NDArray[Any], label: float, thresholds: tuple[float, ...]) -> _Class:
    counts = (targets[..., 4] == label).sum(axis=1).astype(np.float64)
    scores, images, hits = [], [], []
    for image in np.flatnonzero((outputs[..., 5] == label).any(axis=1)).tolist():
        mine = outputs[image][outputs[image, :, 5] == label]
        mine = mine[np.argsort(-mine[:, 4], kind="stable")][:_MOST_PER_IMAGE]
        true = targets[image][targets[image, :, 4] == label]
        scores.append(mine[:, 4])
        images.append(np.full(len(mine), image))
        hits.append(_hits(mine, true, np.array(thresholds)))
    if not scores:
        return _Class(np.zeros(0, np.int64), np.zeros((len(thresholds), 0), bool), counts)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return _Class(np.concatenate(images)[order], np.concatenate(hits, axis=1)[:, order], counts)


def _hits(mine: NDArray[Any], true: NDArray[Any], thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Thresholds × detections: each takes, best score first, the free true box that it overlaps most."""
    hits = np.zeros((len(thresholds), len(mine)), bool)
    if not len(true):
        return hits
    shares = overlaps(mine[:, :4], true[:, :4])
    free = np.ones((len(thresholds), len(true)), bool)
    for place in np.flatnonzero(shares.max(axis=1) >= thresholds.min()).tolist():
        open_shares = np.where(free, shares[place], -1.0)
        best = open_shares.argmax(axis=1)
        taken = np.flatnonzero(open_shares.max(axis=1) >= thresholds)
        hits[taken, place] = True
        free[taken, best[taken]] = False
    return hits


def _precision_in_parts(found: _Class, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = max(1, _WEIGHTS_AT_ONCE // max(1, len(found.images)))
    return np.concatenate([_precision(found, weights[start : start + rows]) for start in range(0, len(weights), rows)])


def _precision(found: _Class, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The average precision of one class, mean over thresholds; NaN where the weights leave no true box."""
    boxes = weights @ found.boxes_per_image
    drawn = weights[:, found.images].astype(np.float32)
    seen = np.cumsum(drawn, axis=1)
    total = np.zeros(len(weights))
    for hits in found.hits:
        places = np.flatnonzero(hits)
        if not places.size:
            continue
        right = np.cumsum(drawn[:, places], axis=1)
        precision = right / np.maximum(seen[:, places], 1)
        best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        # Recall rises at true detections only, so each answers for the recall levels between the last one and itself.
        levels = np.floor(right * (_RECALL_STEPS / np.maximum(boxes, 1))[:, None] + 1e-6) + (right > 0)
        total += (best_from_here * np.diff(levels, axis=1, prepend=0)).sum(axis=1) / (_RECALL_STEPS + 1)
    return np.where(boxes > 0, total / len(found.hits), np.nan)
