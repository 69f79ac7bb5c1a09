"""Runs a predictor over a data set: all answers, and the score they make."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Predictor, Sample
from edgeward.measure.dataset import LoadedSet
from edgeward.measure.quality import Metric, check_targets, metric_for, metric_named

Told = Callable[[int, int], None]
"""Called with samples done and samples in all."""


class Answers(NamedTuple):
    """The first output over a data set, and what it is judged by (None without labels)."""

    outputs: NDArray[Any]
    targets: NDArray[Any] | None


def answers(
    predictor: Predictor, data: LoadedSet, *, metric: str | None = None, told: Told | None = None, batch: int = 32
) -> Answers:
    """The model's answers to every sample.

    An autoencoder (its answer has its input's shape) is judged by its anomaly score, the mean squared
    reconstruction error, where the labels are 0 and 1 and `metric` is "auc" or None; and against its own input
    where an error metric is asked for and there are no targets.
    """
    outputs: list[NDArray[Any]] = []
    inputs: list[NDArray[Any]] = []
    done = 0
    rebuilds = _rebuilds_its_input(predictor, data, metric)
    for group in predictor.outputs_of(_remembered(predictor, data, inputs if rebuilds else None), batch=batch):
        outputs.append(group[0])
        done += len(group[0])
        if told is not None:
            told(done, len(data))
    gathered = np.concatenate(outputs)
    if not rebuilds:
        return Answers(gathered, data.labels)
    flat = gathered.reshape(len(gathered), -1)
    wanted = np.stack(inputs).reshape(len(gathered), -1)
    if data.labels is None:
        return Answers(flat, wanted)
    return Answers(((flat - wanted) ** 2).mean(axis=1, keepdims=True), data.labels)


def chosen_metric(name: str | None, found: Answers, where: str) -> Metric:
    """The metric asked for, or the one that the data ask for; its targets are checked."""
    metric = metric_for(found.outputs, found.targets) if name is None else metric_named(name)
    if metric.kind != "reference":
        check_targets(metric, found.outputs, found.targets, where)
    return metric


def _rebuilds_its_input(predictor: Predictor, data: LoadedSet, metric: str | None) -> bool:
    inputs, outputs = predictor.session.inputs, predictor.session.outputs
    if len(inputs) != 1 or inputs[0].shape[1:] != outputs[0].shape[1:] or not inputs[0].dtype.startswith("float"):
        return False
    if data.labels is None:
        return metric in ("mse", "mae", "rmse")
    size = np.prod([dim for dim in inputs[0].shape[1:] if isinstance(dim, int)])
    return metric in (None, "auc") and bool(size > 2) and set(np.unique(data.labels).tolist()) == {0, 1}


def _remembered(predictor: Predictor, data: LoadedSet, kept: list[NDArray[Any]] | None) -> Iterator[Sample]:
    for sample in data:
        if kept is not None:
            kept.extend(predictor.tensors(sample).values())
        yield sample
