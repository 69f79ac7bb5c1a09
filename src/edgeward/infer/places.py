"""Who stands where, and who crossed which line."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from edgeward.infer.answer import Answer, Box, Crossing, LineCount, Presence, ZoneCount
from edgeward.kit.errors import WrongInput
from edgeward.records.stream import Anchor, Line, Lines, Point, Zones

Dwell = dict[int, float]
"""For how long each track has been in a zone, in seconds."""


def zones(step: Zones, before: tuple[Dwell, ...], answer: Answer, elapsed_s: float) -> tuple[tuple[Dwell, ...], Answer]:
    """Counts who is in each zone. One that is not seen for a moment stays where it was; one whose track ends leaves."""
    points = _points(answer, step.labels, step.anchor)
    counts, after = [], []
    for zone, dwell in zip(step.zones, before, strict=True):
        inside = [(box, is_inside(point, zone.polygon)) for box, point in points]
        if answer.alive is None:
            counts.append(ZoneCount(zone.name, sum(one for _, one in inside)))
            after.append(dwell)
            continue
        where = {box.track: one for box, one in inside if box.track is not None}
        now = {track: seconds + elapsed_s for track, seconds in dwell.items()}
        gone = {track for track in now if track not in answer.alive or not where.get(track, True)}
        entered = tuple(track for track, one in where.items() if one and track not in now)
        left = tuple(Presence(track, round(now[track], 3)) for track in sorted(gone))
        now = {track: seconds for track, seconds in now.items() if track not in gone} | dict.fromkeys(entered, 0.0)
        present = tuple(Presence(track, round(seconds, 3)) for track, seconds in sorted(now.items()))
        counts.append(ZoneCount(zone.name, len(now), entered, left, present))
        after.append(now)
    return tuple(after), replace(answer, zones=(*(answer.zones or ()), *counts))


class Side(NamedTuple):
    """Where a track was last, and on which side of a line it was when it was last on one: -1 left, 1 right."""

    point: Point
    side: int


class Passed(NamedTuple):
    """Of one line: how often it was crossed, and where each track is."""

    forward: int
    backward: int
    tracks: dict[int, Side]


def lines(step: Lines, before: tuple[Passed, ...], answer: Answer) -> tuple[tuple[Passed, ...], Answer]:
    """Counts who crossed each line since it was seen last. Raises WrongInput for boxes that nobody tracks."""
    if answer.alive is None:
        raise WrongInput("lines are crossed by tracks, and the boxes have none", hint="put a track step before it")
    points = [(box.track, point) for box, point in _points(answer, step.labels, step.anchor) if box.track is not None]
    counts, after = [], []
    for line, passed in zip(step.lines, before, strict=True):
        now, crossed = _passed(line, passed, points)
        tracks = {track: side for track, side in now.tracks.items() if track in answer.alive}
        counts.append(LineCount(line.name, now.forward, now.backward, tuple(crossed)))
        after.append(now._replace(tracks=tracks))
    return tuple(after), replace(answer, lines=(*(answer.lines or ()), *counts))


def _passed(line: Line, passed: Passed, points: Sequence[tuple[int, Point]]) -> tuple[Passed, list[Crossing]]:
    forward, backward, tracks = passed.forward, passed.backward, dict(passed.tracks)
    crossed = []
    for track, point in points:
        depth = _depth(line, point)
        old = tracks.get(track)
        side = (depth > 0) - (depth < 0) or (old.side if old else 0)  # on the line: still where it came from
        tracks[track] = Side(point, side)
        if old is None or not old.side or side == old.side or not _meets(line, old.point, point):
            continue
        forward, backward = forward + (side > 0), backward + (side < 0)
        crossed.append(Crossing(track, "forward" if side > 0 else "backward"))
    return Passed(forward, backward, tracks), crossed


def _depth(line: Line, point: Point) -> float:
    """Positive on the right of the line, as one looks along it; y grows downwards."""
    (x1, y1), (x2, y2) = line.start, line.end
    return (x2 - x1) * (point[1] - y1) - (y2 - y1) * (point[0] - x1)


def _meets(line: Line, old: Point, new: Point) -> bool:
    """Whether the way from one point to another goes through the line between its ends."""
    before, behind = _depth(line, old), _depth(line, new)
    share = before / (before - behind) if before != behind else 0.0
    x, y = old[0] + share * (new[0] - old[0]), old[1] + share * (new[1] - old[1])
    (x1, y1), (x2, y2) = line.start, line.end
    along = (x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)
    return 0 <= along <= (x2 - x1) ** 2 + (y2 - y1) ** 2


def is_inside(point: Point, polygon: Sequence[Point]) -> bool:
    """By the even-odd rule; of two areas that share an edge, a point on it is in one."""
    x, y = point
    odd = False
    for (x1, y1), (x2, y2) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            odd = not odd
    return odd


def _points(answer: Answer, labels: Sequence[str], anchor: Anchor) -> list[tuple[Box, Point]]:
    """The boxes that count, each with the point that stands for it, in shares of the image."""
    if answer.boxes is None or answer.size is None:
        raise WrongInput("zones and lines need boxes in an image, and the answer has none", hint="a detect step")
    height, width = answer.size
    return [
        (box, ((box.x1 + box.x2) / 2 / width, (box.y2 if anchor == "bottom" else (box.y1 + box.y2) / 2) / height))
        for box in answer.boxes if not labels or box.label in labels
    ]  # fmt: skip
