"""Answers to annotated images in the form that metrics take: detections, and maps of classes."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeward.infer import Predictor
from edgeward.infer.geometry import Placement, image_size, placement_of
from edgeward.infer.postprocess import boxes_and_scores, detections_of, overlaps
from edgeward.kit.errors import EdgewardError, WrongInput
from edgeward.measure.annotations import read_mask
from edgeward.measure.dataset import LoadedSet
from edgeward.measure.quality import IGNORED
from edgeward.records.model import Detect

_EVALUATED_FROM = 0.01
"""Average precision ranks all boxes, so that the threshold of everyday use would cut it off."""
_USED_FROM = 0.25
_LOOKED_AT = 32

Group = tuple[NDArray[Any], ...]
"""One array per model output, samples on the first axis."""


class _Scene(NamedTuple):
    """One image's raw outputs, where the image lies in the model's input, and its label."""

    outputs: list[NDArray[Any]]
    placed: Placement
    label: NDArray[Any]


def detections(predictor: Predictor, data: LoadedSet, groups: Iterator[Group]) -> NDArray[np.float32]:
    """Samples × most × 6: x1, y1, x2, y2 in pixels of the raw image, score, class; rows of class -1 are empty.

    By the predictor's own Detect step, else by the one that the first images fit best.
    """
    scenes = _scenes(predictor, data, groups)
    first = list(islice(scenes, _LOOKED_AT))
    step = predictor.detects or fitted_step(first, class_count_of(data))
    _check_classes(step, first[0], class_count_of(data), data.name)
    step = replace(step, score_threshold=min(step.score_threshold, _EVALUATED_FROM))
    found = np.full((len(data), step.most, 6), -1, np.float32)
    for place, scene in enumerate(_chained(first, scenes)):
        rows = _decoded(step, scene)
        found[place, : len(rows)] = rows
    return found


def detect_step(predictor: Predictor, data: LoadedSet) -> Detect:
    """The step that reads the boxes of this model best, with the thresholds of everyday use, found on annotated data.

    Raises WrongInput where the outputs are no head that we read.
    """
    part = data.part(np.arange(min(len(data), _LOOKED_AT)))
    step = fitted_step(list(_scenes(predictor, part, predictor.outputs_of(part))), class_count_of(data))
    return replace(step, score_threshold=_USED_FROM)


def class_count_of(data: LoadedSet) -> int:
    """So many classes a model must know at least to be judged on these boxes."""
    return int(data.labels[..., 4].max(initial=-1)) + 1 if data.labels is not None else 0


def _check_classes(step: Detect, scene: _Scene, class_count: int, where: str) -> None:
    known = boxes_and_scores(step, scene.outputs)[1].shape[1]
    if class_count > known:
        raise WrongInput(f"{where}: a box is of class {class_count - 1}, the model knows classes 0..{known - 1}")


def _chained(first: list[_Scene], rest: Iterator[_Scene]) -> Iterator[_Scene]:
    yield from first
    yield from rest


def _scenes(predictor: Predictor, data: LoadedSet, groups: Iterator[Group]) -> Iterator[_Scene]:
    place = 0
    for group in groups:
        for row in range(len(group[0])):
            label = data.labels[place] if data.labels is not None else np.zeros((0, 5))
            yield _Scene([output[row] for output in group], _placed(predictor, data, place), label)
            place += 1


def _placed(predictor: Predictor, data: LoadedSet, place: int) -> Placement:
    try:
        height, width = image_size(next(iter(data[place].values())).shape)
    except WrongInput as error:
        raise WrongInput(f"{data.name}: {error.message}") from error
    return placement_of(predictor.preprocess, height, width)


def _decoded(step: Detect, scene: _Scene) -> NDArray[np.float32]:
    rows = detections_of(step, scene.outputs, height=scene.placed.height, width=scene.placed.width)
    return scene.placed.to_raw(rows)


def fitted_step(scenes: Sequence[_Scene], class_count: int) -> Detect:
    """The Detect step for a head of these shapes; box format and unit are those that find the true boxes best.

    Raises WrongInput where the outputs are no head that we read.
    """
    outputs = scenes[0].outputs
    layout = _layout(outputs, class_count)
    scores = boxes_and_scores(Detect(layout=layout, box_format="xyxy"), outputs)[1]
    steps = [
        Detect(
            layout=layout, box_format=box_format, normalized=normalized, score_threshold=_EVALUATED_FROM,
            sigmoid=bool(scores.min(initial=0) < -0.05 or scores.max(initial=0) > 1.05),
        )
        for normalized in (False, True) for box_format in ("xyxy", "cxcywh")
    ]  # fmt: skip
    return max(steps, key=lambda step: sum(_found_share(step, scene) for scene in scenes))


def _layout(outputs: Sequence[NDArray[Any]], class_count: int) -> Any:
    shapes = [output.shape for output in outputs]
    pair = shapes[:2] if len(shapes) > 1 and all(len(shape) == 2 for shape in shapes[:2]) else []
    if pair and pair[0][0] == pair[1][0] and 4 in (pair[0][1], pair[1][1]):
        return "pair"
    if len(shapes[0]) == 2 and min(shapes[0]) >= 1:
        rows, columns = shapes[0]
        if columns == 4 + class_count or (rows != 4 + class_count and 5 <= columns <= rows):
            return "rows"
        if rows >= 5:
            return "columns"
    told = " and ".join("x".join(map(str, shape)) for shape in shapes)
    raise WrongInput(
        f"the model answers {told} per image, which is no detection head that we read",
        hint="one output of anchors x (4 + classes) or its transpose, or two: anchors x 4 and anchors x classes",
    )


def _found_share(step: Detect, scene: _Scene) -> float:
    """The sum over true boxes of the largest overlap with a detection of the same class."""
    true = scene.label[scene.label[:, 4] >= 0]
    rows = _decoded(step, scene)
    if not len(true) or not len(rows):
        return 0.0
    same = rows[:, 5][None] == true[:, 4][:, None]
    return float((overlaps(true, rows) * same).max(axis=1).sum())


def maps(predictor: Predictor, data: LoadedSet, groups: Iterator[Group]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The class of each cell of the model's answer, and what the mask says at its middle (255 beyond the image)."""
    found, wanted = [], []
    for place, scene in enumerate(_scenes(predictor, data, groups)):
        try:
            told = classes_of_map(scene.outputs[0], scene.placed.height, scene.placed.width)
            mask = read_mask(scene.label)
        except EdgewardError as error:
            raise type(error)(f"{data.sources[place]}: {error.message}", hint=error.hint) from error
        size = next(iter(data[place].values())).shape
        if mask.shape not in (size[:2], size[-2:]):
            told_size = f"{mask.shape[0]}x{mask.shape[1]}, the image {size[0]}x{size[1]}"
            raise WrongInput(f"{data.sources[place]}: the mask is {told_size}")
        found.append(told)
        wanted.append(scene.placed.sampled(mask, *told.shape, outside=IGNORED))
    return np.stack(found), np.stack(wanted)


def classes_of_map(output: NDArray[Any], height: int, width: int) -> NDArray[np.int16]:
    """Class numbers of an answer for an input of this size: scores with classes on either side, or numbers."""
    if np.issubdtype(output.dtype, np.floating) and np.isnan(output).any():
        raise WrongInput("the model's answer holds NaN, which is no class")
    if output.ndim == 2 and output.dtype.kind in "iu":
        return output.astype(np.int16)
    planes = output[None] if output.ndim == 2 else output
    if planes.ndim == 3:
        first = planes.shape[1] * width == planes.shape[2] * height
        last = planes.shape[0] * width == planes.shape[1] * height
        if last and (not first or planes.shape[2] < planes.shape[0]):
            planes, first = planes.transpose(2, 0, 1), True
        if first and len(planes) == 1:
            threshold = 0.5 if planes.min() >= 0 and planes.max() <= 1 else 0.0
            whole = planes[0] if planes.dtype.kind in "iu" else planes[0] > threshold
            return np.asarray(whole, np.int16)
        if first:
            return np.asarray(planes.argmax(axis=0), np.int16)
    shape = "x".join(map(str, output.shape))
    raise WrongInput(f"the model answers {shape} per image, which is no map of classes for {height}x{width} pixels")
