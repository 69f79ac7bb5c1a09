"""What a model says of one sample, and how a program is told of it."""

from typing import Any

from msgspec import Struct
from numpy.typing import NDArray


class Class(Struct, frozen=True):
    """One class the model sees in a sample, with its score."""

    label: str
    index: int
    score: float


class Box(Struct, frozen=True):
    """One object the model sees in an image: its class with the score, and its corners in pixels of the raw image."""

    label: str
    index: int
    score: float
    x1: float
    y1: float
    x2: float
    y2: float


class Answer(Struct, frozen=True):
    """What the model says of one sample, and where the time went (milliseconds).

    `outputs` has one array per model output without its batch axis; `classes` is empty unless the steps classify,
    `boxes` is None unless they detect.
    """

    outputs: dict[str, NDArray[Any]]
    classes: tuple[Class, ...]
    pre_ms: float
    infer_ms: float
    post_ms: float
    boxes: tuple[Box, ...] | None = None


def document_of(answer: Answer) -> dict[str, Any]:
    """The answer as its JSON document has it: `outputs`, `latency_ms`, and what the steps read out of the outputs.

    NaN and infinity become null where it is encoded: JSON has neither.
    """
    times = {"pre": answer.pre_ms, "infer": answer.infer_ms, "post": answer.post_ms}
    document: dict[str, Any] = {
        "outputs": {name: value.tolist() for name, value in answer.outputs.items()},
        "latency_ms": {stage: round(value, 4) for stage, value in {**times, "total": sum(times.values())}.items()},
    }
    if answer.classes:
        document["classes"] = answer.classes
    if answer.boxes is not None:
        document["boxes"] = answer.boxes
    return document
