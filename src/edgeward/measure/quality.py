"""How good a model's answers are: task metrics over a data set, and the paired drop from a reference."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import WrongInput
from edgeward.measure.statistics import Interval, bootstrap_interval, paired_share_interval, share_interval

Outputs = NDArray[Any]
"""The first output over all samples, samples on the first axis."""


class Metric(NamedTuple):
    """A task metric. `parts` gives one number per sample whose mean is the score, `score` the score of a set."""

    name: str
    higher_is_better: bool
    kind: str
    parts: Callable[[Outputs, NDArray[Any]], NDArray[Any]] | None
    score: Callable[[Outputs, NDArray[Any]], float]


class Drop(NamedTuple):
    """Reference minus candidate (for errors the relative rise), and its 95 % interval over paired samples."""

    value: float
    interval: Interval


def metric_named(name: str) -> Metric:
    """Raises WrongInput for a name we do not know."""
    if name not in METRICS:
        raise WrongInput(f"there is no metric {name!r}; there are {', '.join(METRICS)}")
    return METRICS[name]


def metric_for(outputs: Outputs, targets: NDArray[Any] | None) -> Metric:
    """The metric that the data ask for: top1 for class numbers, mse for float targets, agreement without labels."""
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
    if metric.kind == "error" and targets.reshape(len(targets), -1).shape != outputs.reshape(len(outputs), -1).shape:
        raise WrongInput(
            f"{where}: the model answers {outputs.shape[1:]} per sample, the targets have {targets.shape[1:]}"
        )
    return targets


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
    is_auc = metric.name == "auc"
    limit = 2 if is_auc or classes == 1 else classes
    if limit and (low < 0 or high >= limit):
        raise WrongInput(
            f"{where}: a label is {high if high >= limit else low}, the model knows classes 0..{limit - 1}"
        )


def interval(metric: Metric, outputs: Outputs, targets: NDArray[Any], *, seed: int) -> Interval:
    """The 95 % interval of the score: Wilson's for shares, by bootstrap for all others."""
    if metric.parts is None:
        return bootstrap_interval(lambda rows: metric.score(outputs[rows], targets[rows]), len(outputs), seed=seed)
    parts = metric.parts(outputs, targets)
    if parts.dtype == np.bool_:
        return share_interval(parts)
    return bootstrap_interval(lambda rows: float(parts[rows].mean()), len(parts), seed=seed)


def drop(metric: Metric, reference: Outputs, candidate: Outputs, targets: NDArray[Any], *, seed: int) -> Drop:
    """How much worse `candidate` is than `reference` on the same samples, with its interval."""
    if metric.parts is not None and metric.higher_is_better:
        first, second = metric.parts(reference, targets), metric.parts(candidate, targets)
        value = float(first.mean() - second.mean())
        if first.dtype == np.bool_:
            return Drop(value, paired_share_interval(first, second))
        return Drop(
            value, bootstrap_interval(lambda rows: float((first[rows] - second[rows]).mean()), len(first), seed=seed)
        )
    before, after = metric.score(reference, targets), metric.score(candidate, targets)
    return Drop(
        _worsening(metric, before, after),
        bootstrap_interval(
            lambda rows: _worsening(
                metric, metric.score(reference[rows], targets[rows]), metric.score(candidate[rows], targets[rows])
            ),
            len(reference), seed=seed,
        ),
    )  # fmt: skip


def _worsening(metric: Metric, before: float, after: float) -> float:
    if metric.higher_is_better:
        return before - after
    if before == 0:
        return 0.0 if after == 0 else float("inf")
    return (after - before) / before


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


def _auc(outputs: Outputs, targets: NDArray[Any]) -> float:
    """Area under the receiver operating characteristic, as the Mann-Whitney statistic with ties counted half."""
    scores = _flat(outputs)
    values = scores[:, -1] if scores.shape[1] <= 2 else scores.mean(axis=1)
    positive = targets.astype(bool)
    if positive.all() or not positive.any():
        return float("nan")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    wins = ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(wins / (positive.sum() * (~positive).sum()))


def _f1(outputs: Outputs, targets: NDArray[Any]) -> float:
    """The mean over classes of 2 TP / (2 TP + FP + FN) (macro F1)."""
    predicted = _predicted(outputs)
    scores = []
    for label in np.unique(targets):
        hits = float(np.sum((predicted == label) & (targets == label)))
        misses = float(np.sum((predicted == label) ^ (targets == label)))
        scores.append(2 * hits / (2 * hits + misses))
    return float(np.mean(scores))


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


def _mean(parts: Callable[[Outputs, NDArray[Any]], NDArray[Any]]) -> Callable[[Outputs, NDArray[Any]], float]:
    return lambda outputs, targets: float(parts(outputs, targets).mean())


METRICS: dict[str, Metric] = {
    "top1": Metric("top1", True, "class", _top1, _mean(_top1)),
    "top5": Metric("top5", True, "class", _top5, _mean(_top5)),
    "f1": Metric("f1", True, "class", None, _f1),
    "auc": Metric("auc", True, "class", None, _auc),
    "mse": Metric("mse", False, "error", _squared, _mean(_squared)),
    "mae": Metric("mae", False, "error", _absolute, _mean(_absolute)),
    "rmse": Metric(
        "rmse", False, "error", None, lambda outputs, targets: float(_squared(outputs, targets).mean() ** 0.5)
    ),
    "agreement": Metric("agreement", True, "reference", _agreement, _mean(_agreement)),
    "cosine": Metric("cosine", True, "reference", _cosine, _mean(_cosine)),
    "deviation": Metric("deviation", True, "reference", _deviation, _mean(_deviation)),
}
"""By name. The last three compare with the float model's own answers, and need no labels."""


def gather(batches: Sequence[tuple[Outputs, ...]]) -> Outputs:
    """The first output of all batches, samples on the first axis."""
    return np.concatenate([batch[0] for batch in batches])
