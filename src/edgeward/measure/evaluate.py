"""Runs a predictor over a data set: all answers, and the score they make."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Predictor, Sample
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.measure import annotated
from edgeward.measure.annotations import AnnotationKind
from edgeward.measure.dataset import LoadedSet
from edgeward.measure.label_and_scores import gives_label_and_scores, judged
from edgeward.measure.quality import Metric, check_answers, check_targets, metric_for, metric_named

Told = Callable[[int, int], None]
"""Called with samples done and samples in all."""


class Answers(NamedTuple):
    """What a data set's samples are answered, and what that is judged by (None without labels).

    Answers are the first output, or the scores behind it (see label_and_scores); detections or maps of classes where
    the data are annotated so.
    """

    outputs: NDArray[Any]
    targets: NDArray[Any] | None
    annotation: AnnotationKind | None = None


def answers(
    predictor: Predictor, data: LoadedSet, *, metric: str | None = None, told: Told | None = None, batch: int = 32
) -> Answers:
    """The model's answers to every sample.

    An autoencoder (its answer has its input's shape) is judged by its anomaly score, the mean squared
    reconstruction error, where the labels are 0 and 1 and `metric` is "auc" or None; and against its own input
    where an error metric is asked for and there are no targets.
    """
    inputs: list[NDArray[Any]] = []
    rebuilds = data.annotation is None and _rebuilds_its_input(predictor, data, metric)
    samples = _remembered(predictor, data, inputs if rebuilds else None)
    groups = _told_of(predictor.outputs_of(samples, batch=batch), len(data), told)
    if data.annotation == "boxes":
        return Answers(annotated.detections(predictor, data, groups), data.labels, "boxes")
    if data.annotation == "masks":
        return Answers(*annotated.maps(predictor, data, groups), "masks")
    if gives_label_and_scores(predictor.session.outputs):
        pairs = [group[:2] for group in groups]
        labels, scores = (gathered([pair[place] for pair in pairs]) for place in (0, 1))
        return Answers(*judged(labels, scores, data.labels, data.class_names, metric))
    outputs = gathered([group[0] for group in groups])
    if not rebuilds:
        return Answers(outputs, data.labels)
    flat = outputs.reshape(len(outputs), -1)
    wanted = np.stack(inputs).reshape(len(outputs), -1)
    if data.labels is None:
        return Answers(flat, wanted)
    return Answers(((flat - wanted) ** 2).mean(axis=1, keepdims=True), data.labels)


def _told_of(
    groups: Iterator[tuple[NDArray[Any], ...]], count: int, told: Told | None
) -> Iterator[tuple[NDArray[Any], ...]]:
    done = 0
    for group in groups:
        yield group
        done += len(group[0])
        if told is not None:
            told(done, count)


def gathered(outputs: list[NDArray[Any]]) -> NDArray[Any]:
    """Answers of several groups of samples as one array. Raises Unsupported where their shapes differ."""
    shapes = sorted({output.shape[1:] for output in outputs})
    if len(shapes) > 1:
        raise Unsupported(
            f"the model answers {list(shapes[0])} to one sample and {list(shapes[1])} to another: "
            "answers of several shapes cannot be judged together"
        )
    return np.concatenate(outputs)


def chosen_metric(name: str | None, found: Answers, where: str) -> Metric:
    """The metric asked for, or the one that the data ask for; its targets are checked.

    cosine compares with float targets of the answer's shape where there are any, else with a reference.
    """
    metric = metric_for(found.outputs, found.targets, found.annotation) if name is None else metric_named(name)
    needed = metric.kind if metric.kind in ("boxes", "masks") else None
    if needed != found.annotation:
        raise _unfit(metric, needed, found, where)
    check_answers(found.outputs)
    if metric.name == "cosine" and found.targets is not None and _are_vectors(found):
        metric = metric._replace(kind="error")
    if metric.kind != "reference":
        check_targets(metric, found.outputs, found.targets, where)
    return metric


def _are_vectors(found: Answers) -> bool:
    targets = found.targets
    return targets is not None and targets.dtype.kind == "f" and targets.size == found.outputs.size and targets.ndim > 1


def _unfit(metric: Metric, needed: str | None, found: Answers, where: str) -> WrongInput:
    if found.annotation is None:
        return WrongInput(
            f"{where}: {metric.name} wants {needed}, and there are none",
            hint=f"docs/datasets.md says how {needed} are kept",
        )
    fit = "map or map50" if found.annotation == "boxes" else "miou"
    return WrongInput(
        f"{where}: the labels are {found.annotation}, which {metric.name} cannot judge; {fit} can",
        hint=f"--metric {fit.split()[0]}",
    )


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
