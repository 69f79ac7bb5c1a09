"""What a model says of one sample, and how a program is told of it."""

from typing import Any, Literal

import numpy as np
from msgspec import Struct, to_builtins
from numpy.typing import NDArray


class Class(Struct, frozen=True):
    """One class the model sees in a sample, with its score."""

    label: str
    index: int
    score: float


class Box(Struct, frozen=True, omit_defaults=True):
    """One object the model sees in an image: its class with the score, and its corners in pixels of the raw image.
    `track` is its number in a stream, None where nobody tracks it."""

    label: str
    index: int
    score: float
    x1: float
    y1: float
    x2: float
    y2: float
    track: int | None = None


class Segment(Struct, frozen=True):
    """The pixels of one class: how many, and which share of the raw image."""

    label: str
    index: int
    area: int
    share: float


class KeyPoint(Struct, frozen=True):
    """A named point in pixels of the raw image, with its score (1 where the model gives none)."""

    label: str
    index: int
    score: float
    x: float
    y: float


class Verdict(Struct, frozen=True):
    """How unlike what it knows a model finds a sample."""

    score: float
    threshold: float
    is_anomaly: bool


class Presence(Struct, frozen=True):
    """A track in a zone, and for how long it has been, or was, there."""

    track: int
    dwell_s: float


class ZoneCount(Struct, frozen=True):
    """How many objects are in a zone; of tracks also which came with this answer, which left, and which are there."""

    name: str
    inside: int
    entered: tuple[int, ...] = ()
    left: tuple[Presence, ...] = ()
    present: tuple[Presence, ...] = ()


class Crossing(Struct, frozen=True):
    """A track that crossed a line with this answer."""

    track: int
    direction: Literal["forward", "backward"]


class LineCount(Struct, frozen=True):
    """How often a line was crossed since the stream began, and who crossed it with this answer."""

    name: str
    forward: int
    backward: int
    crossed: tuple[Crossing, ...] = ()


class Answer(Struct, frozen=True):
    """What the model says of one sample, and where the time went (milliseconds).

    `outputs` has one array per model output without its batch axis; `classes` is empty unless the steps classify,
    `boxes` is None unless they detect. `size` is the raw image's height and width where one was looked at, `mask` the
    class of each of its pixels (-1: not seen by the model), `segments` the classes in it but for the background.

    Of a stream (see stream.py): `alive` are the numbers of its tracks, seen in this answer or not; `zones` and `lines`
    what they count.
    """

    outputs: dict[str, NDArray[Any]]
    classes: tuple[Class, ...]
    pre_ms: float
    infer_ms: float
    post_ms: float
    boxes: tuple[Box, ...] | None = None
    size: tuple[int, int] | None = None
    mask: NDArray[np.int16] | None = None
    segments: tuple[Segment, ...] | None = None
    keypoints: tuple[KeyPoint, ...] | None = None
    anomaly: Verdict | None = None
    alive: tuple[int, ...] | None = None
    zones: tuple[ZoneCount, ...] | None = None
    lines: tuple[LineCount, ...] | None = None


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
    if answer.segments is not None and answer.mask is not None:
        document["segments"] = [
            {**to_builtins(one), "mask": run_lengths(answer.mask == one.index)} for one in answer.segments
        ]
    for name in ("boxes", "keypoints", "anomaly", "zones", "lines"):
        if (found := getattr(answer, name)) is not None:
            document[name] = found
    return document


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    """As COCO writes masks: height and width, and how many pixels in turn are out and in, column by column."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {"size": [*mask.shape], "counts": [0, *counts] if flat.size and flat[0] else counts}
