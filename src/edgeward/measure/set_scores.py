"""Scores of a set of samples. Each is prepared once, and then takes any weights of the samples.

Weights are resamples × samples: ones for the score itself, a bootstrap's draws for its interval. A score is NaN where
the weights leave it undefined, such as an AUC without positives.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.measure.statistics import Statistic

Weights = NDArray[np.float64]


def mean(parts: NDArray[Any]) -> Statistic:
    """The mean of `parts`."""
    numbers = parts.astype(np.float64)
    return lambda weights: (weights @ numbers) / weights.sum(axis=1)


def auc(values: NDArray[Any], positive: NDArray[np.bool_]) -> Statistic:
    """Area under the receiver operating characteristic, as the Mann-Whitney statistic with ties counted half."""
    order = np.argsort(values, kind="stable")
    is_new = np.concatenate([[True], values[order][1:] != values[order][:-1]])
    starts = np.flatnonzero(is_new)
    sign = positive[order].astype(np.float64)

    def scores(weights: Weights) -> NDArray[np.float64]:
        ordered = weights[:, order]
        right = np.add.reduceat(ordered * sign, starts, axis=1)
        wrong = np.add.reduceat(ordered * (1 - sign), starts, axis=1)
        wins = (right * (np.cumsum(wrong, axis=1) - wrong / 2)).sum(axis=1)
        return _divided(wins, right.sum(axis=1) * wrong.sum(axis=1))

    return scores


def f1(predicted: NDArray[Any], targets: NDArray[Any], classes: NDArray[Any]) -> Statistic:
    """The mean over `classes` (those that the weights leave) of 2 TP / (2 TP + FP + FN)."""
    count = len(classes)
    true, told = _places(targets, classes), _places(predicted, classes)
    right = np.where(true == told, true, count)

    def scores(weights: Weights) -> NDArray[np.float64]:
        each = [
            [np.bincount(places, row, count + 1)[:count] for places in (true, told, right)] for row in weights
        ]  # fmt: skip
        truths, tellings, hits = np.moveaxis(np.array(each), 1, 0)
        found = np.divide(2 * hits, truths + tellings, out=np.zeros_like(hits), where=truths + tellings > 0)
        return _divided((found * (truths > 0)).sum(axis=1), (truths > 0).sum(axis=1))

    return scores


def _places(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Where each label stands in the sorted `classes`; behind the last one for a label that is none of them."""
    near = np.clip(np.searchsorted(classes, labels), 0, len(classes) - 1)
    return np.where(classes[near] == labels, near, len(classes))


def root_mean(parts: NDArray[np.float64]) -> Statistic:
    """The root of the mean of `parts`."""
    return lambda weights: np.sqrt((weights @ parts) / weights.sum(axis=1))


def r2(outputs: NDArray[Any], targets: NDArray[Any]) -> Statistic:
    """The share of the targets' variance that is explained, mean over the targets of a sample that vary."""
    middle = targets.astype(np.float64) - targets.mean(axis=0, dtype=np.float64)
    squares, errors = middle**2, (outputs.astype(np.float64) - targets) ** 2

    def scores(weights: Weights) -> NDArray[np.float64]:
        spread = weights @ squares - (weights @ middle) ** 2 / weights.sum(axis=1, keepdims=True)
        varies = spread > 1e-12 * np.maximum(weights @ squares, 1e-300)
        shares = 1 - np.divide(weights @ errors, spread, out=np.ones_like(spread), where=varies)
        return _divided((shares * varies).sum(axis=1), varies.sum(axis=1))

    return scores


def mean_iou(outputs: NDArray[Any], targets: NDArray[Any], *, ignored: int) -> Statistic:
    """The mean, over classes that stand in the masks or in the answers, of intersection over union of pixels."""
    judged = targets != ignored
    classes = int(max(outputs[judged].max(initial=0), targets[judged].max(initial=0))) + 1
    shared, union = np.zeros((2, len(outputs), classes))
    for place, (told, true, mask) in enumerate(zip(outputs, targets, judged, strict=True)):
        mine, wanted = told[mask].astype(np.int64), true[mask].astype(np.int64)
        shared[place] = np.bincount(wanted[mine == wanted], minlength=classes)
        union[place] = np.bincount(mine, minlength=classes) + np.bincount(wanted, minlength=classes) - shared[place]

    def scores(weights: Weights) -> NDArray[np.float64]:
        together, whole = weights @ shared, weights @ union
        shares = np.divide(together, whole, out=np.zeros_like(whole), where=whole > 0)
        return _divided(shares.sum(axis=1), (whole > 0).sum(axis=1))

    return scores


def _divided(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    return np.divide(one, other, out=np.full(len(one), np.nan), where=other > 0)  # type: ignore[no-any-return]
