"""What is made of the answers of one stream, one after another: tracks, zones, lines, and calmer answers."""

from typing import Annotated, Literal

from msgspec import Meta

from edgeward.records.base import Document, Ratio

Answers = Annotated[int, Meta(ge=1, le=10_000)]
Point = tuple[float, float]
"""x and y as shares of the image's width and height, from its left and top edge."""
Anchor = Literal["bottom", "middle"]
"""The point that stands for a box: the middle of its lower edge, where a thing stands on the ground, or its middle."""


class Track(Document, tag="track"):
    """Gives each object a number that it keeps from answer to answer: a Kalman filter (constant velocity of middle
    and size) says where it should be, and the pairing of most overlap in all says which box it is.

    Boxes from `score_threshold` on begin a track or continue one that they overlap by `match_iou`; weaker ones only
    continue one that was seen the last time. It gets its number when it was seen in `confirm` answers one after
    another, and ends when it was not seen in `keep`.
    """

    score_threshold: Ratio = 0.5
    match_iou: Ratio = 0.3
    confirm: Answers = 2
    keep: Answers = 30


class Zone(Document):
    """An area of the image by its corners, in order."""

    name: str
    polygon: Annotated[tuple[Point, ...], Meta(min_length=3, max_length=64)]


class Zones(Document, tag="zones"):
    """How many objects stand in each area, which came in and which left, and for how long. `labels` are those that
    count (none: all). Without a `track` step before it only the number inside is known.
    """

    zones: tuple[Zone, ...]
    labels: tuple[str, ...] = ()
    anchor: Anchor = "bottom"


class Line(Document):
    """From one point to another. Who crosses from its left to its right, as one looks along it, goes forward."""

    name: str
    start: Point
    end: Point


class Lines(Document, tag="lines"):
    """How often objects crossed each line, in each direction. Stands behind a `track` step."""

    lines: tuple[Line, ...]
    labels: tuple[str, ...] = ()
    anchor: Anchor = "bottom"


class Smooth(Document, tag="smooth"):
    """What the last `last` answers say together: the class (or verdict) that most of them name, or that of the mean
    of their first outputs (of their scores, for a verdict).
    """

    last: Answers
    method: Literal["majority", "mean"] = "majority"


StreamStep = Track | Zones | Lines | Smooth
StreamSteps = tuple[StreamStep, ...]
"""From one stream's answers, in the order in which they come, to answers that know those before them."""
