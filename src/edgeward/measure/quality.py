"""How good a model's answers are: task metrics over a data set, and the paired drop from a reference."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import Failed, WrongInput
from edgeward.measure import set_scores
from edgeward.measure.detection import COCO_THRESHOLDS, average_precision
from edgeward.measure.statistics import (
    Interval,
    Statistic,
    bootstrap_interval,
    exact_paired_p,
    paired_share_interval,
    share_interval,
)

Outputs = NDArray[Any]
"""The answers to all samples, samples on the first axis: the first output, or detections, or maps of classes."""

IGNORED = 255
"""The class of mask pixels that are left out, as in Pascal VOC and Cityscapes."""

_ROWS_AT_ONCE = 512
_BOX_RESAMPLES = 400
"""Average precision is a hundred times the work of a mean; its interval moves by a few hundredths of its width."""


class Metric(NamedTuple):
    """A task metric. `weighted` gives the score as a function of the samples' weights; `parts`, where the score is
    a mean over samples, the number of each.

    `kind` says what targets it wants: class (numbers), error (values of the answer's shape), reference (another
    model's answers), retrieval (numbers of what belongs together), boxes, masks.
    """

    name: str
    higher_is_better: bool
    kind: str
    parts: Callable[[Outputs, NDArray[Any]], NDArray[Any]] | None
    weighted: Callable[[Outputs, NDArray[Any]], Statistic]
    resamples: int = 1000

    def score(self, outputs: Outputs, targets: NDArray[Any]) -> float:
        """The score of these answers; NaN where it is not defined, as the AUC of one class."""
        return float(self.weighted(outputs, targets)(np.ones((1, len(outputs))))[0])


class Drop(NamedTuple):
    """Reference minus candidate (for errors the relative rise), and its 95 % interval over paired samples.

    `p_value` is that of McNemar's exact test, where each sample is right or wrong: how likely so uneven a split of
    the disagreements is by chance.
    """

    value: float
    interval: Interval
    p_value: float | None = None


TASKS = {
    "classification": "top1",
    "audio": "top1",
    "regression": "mse",
    "anomaly": "auc",
    "detection": "map",
    "segmentation": "miou",
    "embedding": "cosine",
}
"""The metric that each task is judged by where nobody asks for another."""


def metric_named(name: str) -> Metric:
    """Raises WrongInput for a name we do not know."""
    if name not in METRICS:
        if name in TASKS:
            raise WrongInput(f"{name!r} is a task, not a metric", hint=f"--metric {TASKS[name]}")
        raise WrongInput(f"there is no metric {name!r}; there are {', '.join(METRICS)}")
    return METRICS[name]


def metric_of_task(name: str) -> str:
    """The name of the metric that a task is judged by. Raises WrongInput for a task we do not know."""
    if name not in TASKS:
        raise WrongInput(f"there is no task {name!r}; there are {', '.join(TASKS)}")
    return TASKS[name]


def metric_for(outputs: Outputs, targets: NDArray[Any] | None, annotation: str | None = None) -> Metric:
    """The metric that the data ask for: top1 for class numbers, mse for float targets, agreement without labels,
    map for boxes, miou for masks."""
    if annotation is not None:
        return METRICS["map" if annotation == "boxes" else "miou"]
    if targets is None:
        return METRICS["agreement" if outputs.reshape(len(outputs), -1).shape[1] > 1 else "deviation"]
    if targets.dtype.kind == "f" or targets.ndim > 1:
        return METRICS["mse"]
    return METRICS["top1"]


def check_targets(metric: Metric, outputs: Outputs, targets: NDArray[Any] | None, where: str) -> NDArray[Any]:
    """The targets, fit for the metric. Raises WrongInput where they cannot be: absent, of one class, out of range."""
    if targets is None:
        raise WrongInput(f"{where}: {metric.name} needs labels, and there are none", hint="--metric agreement")
    if metric.kind == "class":
        _check_classes(metric, outputs, targets, where)
    if metric.kind == "retrieval":
        _check_retrieval(targets, where)
    if metric.kind == "boxes" and not (targets[..., 4] >= 0).any():
        raise WrongInput(f"{where}: no image has a true box; {metric.name} needs some")
    if metric.kind == "masks" and not (targets != IGNORED).any():
        raise WrongInput(f"{where}: every pixel of the masks is {IGNORED}, which is left out; nothing can be judged")
    if metric.kind == "error" and targets.reshape(len(targets), -1).shape != outputs.reshape(len(outputs), -1).shape:
        raise WrongInput(
            f"{where}: the model answers {outputs.shape[1:]} per sample, the targets have {targets.shape[1:]}"
        )
    return targets


def check_answers(outputs: Outputs) -> None:
    """Raises Failed where an answer is NaN: it would be taken for a class, or make every average NaN."""
    if outputs.dtype.kind != "f":
        return
    wrong = np.isnan(_flat(outputs)).any(axis=1)
    if wrong.any():
        raise Failed(
            f"the model answers NaN to {int(wrong.sum())} of {len(wrong)} samples, first to {int(wrong.argmax())}"
        )


def _check_retrieval(targets: NDArray[Any], where: str) -> None:
    if targets.dtype.kind not in "iub" or targets.ndim != 1:
        raise WrongInput(f"{where}: retrieval wants one class number per sample, the labels are {targets.dtype}")
    if not (np.unique(targets, return_counts=True)[1] > 1).any():
        raise WrongInput(f"{where}: no two samples have the same label, so that none can be found by another")


def _check_classes(metric: Metric, outputs: Outputs, targets: NDArray[Any], where: str) -> None:
    if targets.dtype.kind not in "iub" or targets.ndim != 1:
        raise WrongInput(f"{where}: {metric.name} wants one class number per sample, the labels are {targets.dtype}")
    classes = outputs.reshape(len(outputs), -1).shape[1] if outputs.dtype.kind == "f" else 0
    low, high = int(targets.min()), int(targets.max())
    if low == high:
        raise WrongInput(
            f"{where}: all {len(targets)} labels are class {low}; {metric.name} of one class says nothing",
            hint="give data with at least two classes",
        )
    is_binary = metric.name in ("auc", "f1_binary")
    limit = 2 if is_binary or classes == 1 else classes
    if limit and (low < 0 or high >= limit):
        raise WrongInput(
            f"{where}: a label is {high if high >= limit else low}, the model knows classes 0..{limit - 1}"
        )


def interval(metric: Metric, outputs: Outputs, targets: NDArray[Any], *, seed: int) -> Interval:
    """The 95 % interval of the score: Wilson's for shares, by bootstrap for all others."""
    if metric.parts is not None:
        parts = metric.parts(outputs, targets)
        if parts.dtype == np.bool_:
            return share_interval(parts)
    return bootstrap_interval(metric.weighted(outputs, targets), len(outputs), seed=seed, resamples=metric.resamples)


def drop(metric: Metric, reference: Outputs, candidate: Outputs, targets: NDArray[Any], *, seed: int) -> Drop:
    """How much worse `candidate` is than `reference` on the same samples, with its interval.

    Raises Failed where the candidate's answers hold NaN.
    """
    check_answers(candidate)
    if metric.parts is not None and metric.higher_is_better:
        first, second = metric.parts(reference, targets), metric.parts(candidate, targets)
        if first.dtype == np.bool_:
            value = float(first.mean() - second.mean())
            return Drop(value, paired_share_interval(first, second), exact_paired_p(first, second))
    before, after = metric.weighted(reference, targets), metric.weighted(candidate, targets)

    def worsening(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return _worsening(metric, before(weights), after(weights))

    value = float(worsening(np.ones((1, len(reference))))[0])
    return Drop(value, bootstrap_interval(worsening, len(reference), seed=seed, resamples=metric.resamples))


def _worsening(metric: Metric, before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    if metric.higher_is_better:
        return before - after
    unequal = np.where(after == 0, 0.0, np.inf)
    return np.divide(after - before, before, out=unequal, where=before != 0)


def _flat(outputs: Outputs) -> NDArray[Any]:
    return outputs.reshape(len(outputs), -1)


def _predicted(outputs: Outputs) -> NDArray[Any]:
    """Class numbers: the largest score, a lone score against its threshold, or numbers that the model gives itself."""
    if outputs.dtype.kind in "iu" and _flat(outputs).shape[1] == 1:
        return _flat(outputs)[:, 0]
    flat = _flat(outputs)
    if flat.shape[1] > 1:
        return flat.argmax(axis=1)  # type: ignore[no-any-return]
    threshold = 0.5 if flat.min() >= 0 and flat.max() <= 1 else 0.0
    return (flat[:, 0] > threshold).astype(np.int64)


def _top1(outputs: Outputs, targets: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(_predicted(outputs) == targets)


def _top5(outputs: Outputs, targets: NDArray[Any]) -> NDArray[np.bool_]:
    best = np.argsort(-_flat(outputs), axis=1, kind="stable")[:, :5]
    return np.asarray((best == targets[:, None]).any(axis=1))


def _auc(outputs: Outputs, targets: NDArray[Any]) -> Statistic:
    scores = _flat(outputs)
    return set_scores.auc(scores[:, -1] if scores.shape[1] <= 2 else scores.mean(axis=1), targets.astype(bool))


def _retrieved(outputs: Outputs, targets: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the nearest other sample by cosine has the same label."""
    vectors = _flat(outputs).astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    found = np.empty(len(vectors), bool)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        near = vectors[start : start + _ROWS_AT_ONCE] @ vectors.T
        rows = np.arange(len(near))
        near[rows, start + rows] = -np.inf
        found[start : start + len(near)] = targets[near.argmax(axis=1)] == targets[start : start + len(near)]
    return found


def _squared(outputs: Outputs, targets: NDArray[Any]) -> NDArray[np.float64]:
    return ((_flat(outputs).astype(np.float64) - targets.reshape(len(targets), -1)) ** 2).mean(axis=1)  # type: ignore[no-any-return]


def _absolute(outputs: Outputs, targets: NDArray[Any]) -> NDArray[np.float64]:
    return np.abs(_flat(outputs).astype(np.float64) - targets.reshape(len(targets), -1)).mean(axis=1)  # type: ignore[no-any-return]


def _cosine(outputs: Outputs, targets: NDArray[Any]) -> NDArray[np.float64]:
    one, other = _flat(outputs).astype(np.float64), targets.reshape(len(targets), -1).astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.divide((one * other).sum(axis=1), lengths, out=np.ones(len(one)), where=lengths > 0)  # type: ignore[no-any-return]


def _agreement(outputs: Outputs, targets: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(_predicted(outputs) == _predicted(targets))


def _deviation(outputs: Outputs, targets: NDArray[Any]) -> NDArray[np.float64]:
    """1 - |difference| / (largest |reference|): 1 where the answers are equal."""
    scale = float(np.abs(targets).max()) or 1.0
    return 1 - _absolute(outputs, targets) / scale


def _mean(parts: Callable[[Outputs, NDArray[Any]], NDArray[Any]]) -> Callable[[Outputs, NDArray[Any]], Statistic]:
    return lambda outputs, targets: set_scores.mean(parts(outputs, targets))


METRICS: dict[str, Metric] = {
    "top1": Metric("top1", True, "class", _top1, _mean(_top1)),
    "top5": Metric("top5", True, "class", _top5, _mean(_top5)),
    "f1": Metric("f1", True, "class", None, lambda o, t: set_scores.f1(_predicted(o), t, np.unique(t))),
    "f1_binary": Metric("f1_binary", True, "class", None, lambda o, t: set_scores.f1(_predicted(o), t, np.array([1]))),
    "auc": Metric("auc", True, "class", None, _auc),
    "mse": Metric("mse", False, "error", _squared, _mean(_squared)),
    "mae": Metric("mae", False, "error", _absolute, _mean(_absolute)),
    "rmse": Metric("rmse", False, "error", None, lambda o, t: set_scores.root_mean(_squared(o, t))),
    "r2": Metric("r2", True, "error", None, lambda o, t: set_scores.r2(_flat(o), t.reshape(len(t), -1))),
    "map": Metric("map", True, "boxes", None, lambda o, t: average_precision(o, t, COCO_THRESHOLDS), _BOX_RESAMPLES),
    "map50": Metric("map50", True, "boxes", None, lambda o, t: average_precision(o, t, (0.5,)), _BOX_RESAMPLES),
    "miou": Metric("miou", True, "masks", None, lambda o, t: set_scores.mean_iou(o, t, ignored=IGNORED)),
    "retrieval": Metric("retrieval", True, "retrieval", _retrieved, _mean(_retrieved)),
    "agreement": Metric("agreement", True, "reference", _agreement, _mean(_agreement)),
    "cosine": Metric("cosine", True, "reference", _cosine, _mean(_cosine)),
    "deviation": Metric("deviation", True, "reference", _deviation, _mean(_deviation)),
}
"""By name. The last three compare with the float model's own answers, and need no labels."""
