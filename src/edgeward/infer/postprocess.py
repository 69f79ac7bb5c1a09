"""Output tensors to the answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgeward.records.model import Postprocess


class Class(Struct, frozen=True):
    """One class the model sees in a sample, with its score."""

    label: str
    index: int
    score: float


def softmax(scores: NDArray[Any]) -> NDArray[np.float32]:
    """Probabilities along the last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True), dtype=np.float32)
    return shifted / shifted.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]


def classes_of(steps: Postprocess, scores: NDArray[Any], labels: Sequence[str]) -> tuple[Class, ...]:
    """The classes that `steps` name in the first output of one sample (no batch axis), best first."""
    classes: tuple[Class, ...] = ()
    for step in steps:
        flat = scores.reshape(-1)
        if step.top == 1 and step.softmax:
            classes = (_likeliest(flat, labels),)
        else:
            classes = _best(softmax(flat) if step.softmax else flat, step.top, labels)
    return classes


def _likeliest(scores: NDArray[Any], labels: Sequence[str]) -> Class:
    """The best class and its probability: a softmax of which one value is wanted."""
    index = int(scores.argmax())
    probability = 1 / float(np.exp(scores - scores[index]).sum())
    return Class(labels[index] if index < len(labels) else str(index), index, probability)


def _best(scores: NDArray[Any], count: int, labels: Sequence[str]) -> tuple[Class, ...]:
    order = [int(scores.argmax())] if count == 1 else np.argsort(-scores, kind="stable")[:count].tolist()
    return tuple(
        Class(labels[index] if index < len(labels) else str(index), index, float(scores[index])) for index in order
    )
