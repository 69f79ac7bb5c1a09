"""What a model's steps find in a sample, as tensors that a client gets beside the model's own outputs."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Predictor
from edgeward.infer.answer import Answer
from edgeward.records.model import Anomaly, Detect, Keypoints, Segment, TensorSpec

_BOX = ("x1", "y1", "x2", "y2", "score", "index")
_POINT = ("x", "y", "score", "index")


class _Kind(NamedTuple):
    """One tensor: `shape` of one sample, and its values for samples that were answered together."""

    name: str
    dtype: Any
    shape: tuple[int | str, ...]
    values: Any


def found_specs(predictor: Predictor) -> tuple[TensorSpec, ...]:
    """Of the outputs that the steps add; none where they find nothing.

    `boxes` (x1, y1, x2, y2 in pixels of the image as it was sent, score, class number) and `labels`; `keypoints`
    (x, y, score, number) and `keypoint_labels`; `mask`, the class of each pixel, -1 where the model saw none;
    `anomaly`, the score, and `is_anomaly`.
    """
    names = found_names(predictor)
    return tuple(
        TensorSpec(name=names[kind.name], dtype=kind.dtype, shape=kind.shape) for kind in _kinds(predictor)
    )  # fmt: skip


def found_names(predictor: Predictor) -> dict[str, str]:
    """What they are called, which keeps out of the way of the model's own outputs."""
    taken = {spec.name for spec in predictor.session.outputs}
    return {kind.name: f"found_{kind.name}" if kind.name in taken else kind.name for kind in _kinds(predictor)}


def found_tensors(predictor: Predictor, answers: Sequence[Answer]) -> dict[str, NDArray[Any]]:
    """By the names of `found_specs`, samples on the first axis. One in which less was found than in another is filled
    up with rows of zeros, number -1 and no name."""
    if not predictor.finds:
        return {}
    names = found_names(predictor)
    return {names[kind.name]: kind.values(answers) for kind in _kinds(predictor)}


def _kinds(predictor: Predictor) -> Iterator[_Kind]:
    for step in predictor.postprocess:
        match step:
            case Detect():
                yield _Kind("boxes", "float32", ("found", len(_BOX)), lambda found: _rows(found, "boxes", _BOX))
                yield _Kind("labels", "string", ("found",), lambda found: _labels(found, "boxes"))
            case Keypoints():
                yield _Kind(
                    "keypoints", "float32", ("seen", len(_POINT)), lambda found: _rows(found, "keypoints", _POINT)
                )
                yield _Kind("keypoint_labels", "string", ("seen",), lambda found: _labels(found, "keypoints"))
            case Segment():
                yield _Kind("mask", "int16", ("height", "width"), lambda found: np.stack([one.mask for one in found]))
            case Anomaly():
                yield _Kind(
                    "anomaly", "float32", (), lambda found: np.array([one.anomaly.score for one in found], np.float32)
                )
                yield _Kind("is_anomaly", "bool", (), lambda found: np.array([one.anomaly.is_anomaly for one in found]))


def _rows(answers: Sequence[Answer], name: str, fields: Sequence[str]) -> NDArray[np.float32]:
    found = [getattr(answer, name) or () for answer in answers]
    values = np.zeros((len(found), max(map(len, found)), len(fields)), np.float32)
    values[..., fields.index("index")] = -1
    for sample, mine in enumerate(found):
        for place, one in enumerate(mine):
            values[sample, place] = [getattr(one, field) for field in fields]
    return values


def _labels(answers: Sequence[Answer], name: str) -> NDArray[Any]:
    found = [getattr(answer, name) or () for answer in answers]
    labels = np.full((len(found), max(map(len, found))), "", object)
    for sample, mine in enumerate(found):
        labels[sample, : len(mine)] = [one.label for one in mine]
    return labels
