"""Samples of one request through a predictor: alone, or together where the model's batch size says so."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Predictor
from edgeward.infer.markers import ASKED, WORDS, framed
from edgeward.kit.errors import Unavailable
from edgeward.serve.found import found_tensors

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
        outputs |= found_tensors(predictor, [answer])
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
    if predictor.finds:
        answers = [
            predictor.read(
                {name: value[index] for name, value in tensors.items()}, [output[index] for output in outputs.values()]
            )
            for index in range(count)
        ]
        outputs |= found_tensors(predictor, answers)
    return Ran(outputs, pre_s, infer_s, perf_counter() - began - pre_s - infer_s)


def batch_size(predictor: Predictor) -> int | None:
    """The batch size that the model is fixed to, None where it is free."""
    first = predictor.session.inputs[0].shape[0]
    return first if isinstance(first, int) else None
