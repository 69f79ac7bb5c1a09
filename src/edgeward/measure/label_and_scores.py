"""Models that answer a label and the scores behind it, as scikit-learn's do: which of the two a metric judges."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.records.model import TensorSpec

_OF_SCORES = ("auc", "top5", "cosine", "deviation")


class Judged(NamedTuple):
    """One answer for each sample, and what it is judged by."""

    outputs: NDArray[Any]
    targets: NDArray[Any] | None


def gives_label_and_scores(outputs: Sequence[TensorSpec]) -> bool:
    """Whether the first output is one whole number or name for each sample, and the second its scores."""
    if len(outputs) < 2 or outputs[0].dtype not in ("int64", "int32", "string"):
        return False
    return outputs[0].shape[1:] in ((), (1,)) and outputs[1].dtype in ("float32", "float64")


def judged(
    labels: NDArray[Any], scores: NDArray[Any], targets: NDArray[Any] | None, class_names: Sequence[str],
    metric: str | None,
) -> Judged:  # fmt: skip
    """The label where classes are counted, the scores where a metric ranks them, or names have no numbers.

    A detector of outliers, which labels them -1 and scores them lower, is judged as one that calls them 1 and scores
    them higher; its targets may be written either way.
    """
    flat, scores = labels.reshape(-1), scores.reshape(len(labels), -1)
    if _finds_outliers(flat, scores, targets):
        targets = (targets == -1).astype(np.int64) if targets is not None and (targets < 0).any() else targets
        return Judged(-scores if metric in _OF_SCORES else (flat == -1).astype(np.int64), targets)
    if metric in _OF_SCORES:
        return Judged(scores, targets)
    if flat.dtype.kind in "iu":
        return Judged(flat, targets)
    if targets is None or not class_names:
        return Judged(scores, targets)
    numbers = {name: number for number, name in enumerate(class_names)}
    return Judged(np.array([numbers.get(str(name), -1) for name in flat], np.int64), targets)


def _finds_outliers(labels: NDArray[Any], scores: NDArray[Any], targets: NDArray[Any] | None) -> bool:
    if labels.dtype.kind not in "iu" or scores.shape[1] != 1 or not set(np.unique(labels).tolist()) <= {-1, 1}:
        return False
    return targets is None or (targets.dtype.kind in "iu" and set(np.unique(targets).tolist()) <= {-1, 0, 1})
