"""What a model says of one sample, and how a program is told of it."""

from typing import Any, Literal

from msgspec import Struct
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
    `boxes` is None unless they detect. `size` is the raw image's height and width where one was looked at.

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
    for name in ("boxes", "zones", "lines"):
        if (found := getattr(answer, name)) is not None:
            document[name] = found
    return document
