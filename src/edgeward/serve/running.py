"""Samples of one request through a predictor: alone, or together where the model's batch size says so."""

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Predictor
from edgeward.infer.answer import Box
from edgeward.infer.markers import ASKED, WORDS, framed
from edgeward.kit.errors import Unavailable
from edgeward.records.model import TensorSpec

BATCH = 32
"""Samples of one request that run together, where the model leaves the batch size free; bounds memory."""


class Late(Unavailable):
    """The request waited for longer than it may; it was not run."""

    def __init__(self) -> None:
        super().__init__("the request waited for its turn until its deadline had passed; it was not run")


class Asker(Protocol):
    """Who waits for an answer; `gone` when nobody does any more."""

    @property
    def gone(self) -> bool: ...


class Ran(NamedTuple):
    """Outputs with the samples on the first axis, and where the time went (seconds)."""

    outputs: dict[str, NDArray[Any]]
    pre_s: float
    infer_s: float
    post_s: float


def run(predictor: Predictor, tensors: Mapping[str, NDArray[Any]], count: int) -> Ran:
    """The outputs for `count` samples stacked in `tensors`. Raises WrongInput where a sample does not fit."""
    return framed(_run, predictor, tensors, count) if WORDS[ASKED] else _run(predictor, tensors, count)


def _run(predictor: Predictor, tensors: Mapping[str, NDArray[Any]], count: int) -> Ran:
    if count == 1 and batch_size(predictor) in (None, 1):
        answer = predictor.answer({name: value[0] for name, value in tensors.items()})
        outputs = {name: value[None] for name, value in answer.outputs.items()}
        outputs |= _box_tensors(predictor, [answer.boxes or ()])
        return Ran(outputs, answer.pre_ms / 1e3, answer.infer_ms / 1e3, answer.post_ms / 1e3)
    return _run_batches(predictor, tensors, count)


def _run_batches(predictor: Predictor, tensors: Mapping[str, NDArray[Any]], count: int) -> Ran:
    fixed = batch_size(predictor)
    size = fixed or BATCH
    parts: list[list[NDArray[Any]]] = []
    pre_s = infer_s = 0.0
    began = perf_counter()
    for start in range(0, count, size):
        at = perf_counter()
        group = [
            predictor.tensors({name: value[index] for name, value in tensors.items()})
            for index in range(start, min(start + size, count))
        ]
        used = len(group)
        if fixed is not None:
            group += [group[-1]] * (size - used)
        feeds = {name: np.stack([one[name] for one in group]) for name in group[0]}
        ready = perf_counter()
        parts.append([value[:used] for value in predictor.session.run(feeds)])
        predictor.completed += 1
        pre_s, infer_s = pre_s + ready - at, infer_s + perf_counter() - ready
    names = [spec.name for spec in predictor.session.outputs]
    outputs = {name: np.concatenate(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}
    if predictor.detects is not None:
        found = [
            predictor.boxes(
                {name: value[index] for name, value in tensors.items()}, [output[index] for output in outputs.values()]
            )
            for index in range(count)
        ]
        outputs |= _box_tensors(predictor, found)
    return Ran(outputs, pre_s, infer_s, perf_counter() - began - pre_s - infer_s)


def box_specs(predictor: Predictor) -> tuple[TensorSpec, ...]:
    """Two more outputs where the model detects: boxes (x1, y1, x2, y2 in pixels of the image as it was sent, score,
    class number) and the names of their classes. They keep out of the way of the model's own outputs."""
    if predictor.detects is None:
        return ()
    taken = {spec.name for spec in predictor.session.outputs}
    boxes, labels = (f"found_{name}" if name in taken else name for name in ("boxes", "labels"))
    return (
        TensorSpec(name=boxes, dtype="float32", shape=("found", 6)),
        TensorSpec(name=labels, dtype="string", shape=("found",)),
    )


def _box_tensors(predictor: Predictor, found: Sequence[Sequence[Box]]) -> dict[str, NDArray[Any]]:
    """As tensors; a sample with fewer boxes than another is filled up with zeros, class -1 and no name."""
    specs = box_specs(predictor)
    if not specs:
        return {}
    most = max(map(len, found), default=0)
    boxes = np.zeros((len(found), most, 6), np.float32)
    boxes[..., 5] = -1
    labels = np.full((len(found), most), "", object)
    for row, mine in enumerate(found):
        for place, box in enumerate(mine):
            boxes[row, place] = box.x1, box.y1, box.x2, box.y2, box.score, box.index
            labels[row, place] = box.label
    return {specs[0].name: boxes, specs[1].name: labels}


def batch_size(predictor: Predictor) -> int | None:
    """The batch size that the model is fixed to, None where it is free."""
    first = predictor.session.inputs[0].shape[0]
    return first if isinstance(first, int) else None
