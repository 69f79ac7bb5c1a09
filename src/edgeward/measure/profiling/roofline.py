"""The roofline: each layer by its operations for each byte and its speed, under the limits that were measured."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import svg

from edgeward.measure.drawing import NARROW, Box, arrow, dot, label_box, line, picture, text
from edgeward.measure.profiling.words import milliseconds, percent, short
from edgeward.records.profile import ModelProfile, ProfiledLayer

_SHOWN_SHARE = 0.97
"""The axes hold the layers that make up so much of the time; what is beyond them stands at the edge."""
_LABELLED = 7
_WORD_PX, _WORD_START = 6.6, 14.0
_LARGEST_RADIUS = 15.0
_SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class LogAxis(NamedTuple):
    """Values low..high laid in powers of ten along `start`..`start + length` pixels; `length` is negative upwards."""

    low: float
    high: float
    start: float
    length: float

    def at(self, value: float) -> float:
        """Where a value lies, also beyond the axis."""
        share = math.log(max(value, 1e-30) / self.low) / math.log(self.high / self.low)
        return round(self.start + share * self.length, 1)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def ticks(self) -> list[float]:
        """Whole powers of ten."""
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]


class _Spot(NamedTuple):
    layer: ProfiledLayer
    intensity: float
    speed: float


class _Field(NamedTuple):
    profile: ModelProfile
    frame: Box
    x: LogAxis
    y: LogAxis
    wide: bool


def roofline(profile: ModelProfile, width: float) -> str:
    """Drawn for the width it is shown at; empty where no layer has a known work or no limit was measured."""
    spots = [
        _Spot(layer, layer.operations / layer.moved_bytes, layer.gops_per_s)
        for layer in profile.layers
        if layer.operations and layer.moved_bytes and layer.gops_per_s
    ]
    if not spots or not profile.roofs.gops_per_s or not profile.roofs.bandwidths:
        return ""
    height = 340.0 if width < NARROW else 460.0
    frame = Box(46, 26, width - 12, height - 46)
    field = _Field(profile, frame, *_axes(profile, spots, frame), width >= NARROW)
    taken: list[Box] = []
    roofs, words = _roofs(field, taken)
    drawn = [*_frame(field), *roofs]
    order = sorted(spots, key=lambda spot: -spot.layer.time_ms)
    placed = [(spot, *_place(field, spot), _radius(field, spot)) for spot in order]
    drawn += [_mark(field, *one) for one in placed]
    taken += [Box(x - r, y - r, x + r, y + r) for _, x, y, r in placed]
    drawn += words
    for spot, x, y, radius in placed[:_LABELLED]:
        drawn += _label(field, spot, x, y, radius, taken)
    told = f"{percent(profile.share_of_limit)} of the measured limit in all"
    return picture(width, height, "Roofline", told, drawn)


def _axes(profile: ModelProfile, spots: Sequence[_Spot], frame: Box) -> tuple[LogAxis, LogAxis]:
    shown = _most(spots)
    peaks, bands = profile.roofs.gops_per_s.values(), [band.gb_per_s for band in profile.roofs.bandwidths]
    slowest_ridge = max(peaks) / max(bands)
    low_x = min(min(spot.intensity for spot in shown), 1.0) / 1.6
    high_x = max(max(spot.intensity for spot in shown), slowest_ridge) * 3
    low_y = min(min(spot.speed for spot in shown), min(peaks) / 8) / 2
    high_y = max(max(peaks), *(spot.speed for spot in shown)) * 1.9
    low_y = max(low_y, high_y / 1e6)
    return (
        LogAxis(low_x, high_x, frame.left, frame.right - frame.left),
        LogAxis(low_y, high_y, frame.bottom, frame.top - frame.bottom),
    )


def _most(spots: Sequence[_Spot]) -> list[_Spot]:
    """The layers that make up nearly all of the time: the others do not stretch the axes."""
    ordered = sorted(spots, key=lambda spot: -spot.layer.time_ms)
    whole, spent, kept = sum(spot.layer.time_ms for spot in spots), 0.0, list[_Spot]()
    for spot in ordered:
        if kept and spent >= _SHOWN_SHARE * whole:
            break
        kept.append(spot)
        spent += spot.layer.time_ms
    return kept


def _frame(field: _Field) -> list[svg.Element]:
    frame = field.frame
    drawn: list[svg.Element] = [
        text(0, 13, "GOP/s (higher is faster)", "soft"),
        text(frame.right, frame.bottom + 38, "operations for each byte moved", "soft", anchor="end"),
        line(frame.left, frame.bottom, frame.right, frame.bottom, "axis"),
    ]
    for value in field.y.ticks():
        y = field.y.at(value)
        drawn += [
            line(frame.left, y, frame.right, y, "grid"),
            text(frame.left - 7, y + 4, _power(value), "soft", anchor="end"),
        ]
    for value in field.x.ticks():
        x = field.x.at(value)
        drawn += [
            line(x, frame.bottom, x, frame.bottom + 4, "tick"),
            text(x, frame.bottom + 18, _power(value), "soft", anchor="middle"),
        ]
    return drawn


def _power(value: float) -> str:
    power = round(math.log10(value))
    return f"{value:g}" if -3 < power < 4 else f"10{str(power).translate(_SUPERSCRIPTS)}"


def _roofs(field: _Field, taken: list[Box]) -> tuple[list[svg.Element], list[svg.Element]]:
    """A flat line for each precision from where the fastest level of memory reaches it, and a slope for each level;
    and their words."""
    roofs, frame = field.profile.roofs, field.frame
    fastest, top = max(band.gb_per_s for band in roofs.bandwidths), max(roofs.gops_per_s.values())
    used = {layer.precision for layer in field.profile.layers}
    lines, words = list[svg.Element](), list[svg.Element]()
    for precision, peak in roofs.gops_per_s.items():
        y, look = field.y.at(peak), "roof" if precision in used else "roof-other"
        start = max(frame.left, field.x.at(peak / fastest))
        lines.append(line(start, y, frame.right, y, look))
        taken.append(Box(start, y - 1, frame.right, y + 1))
        said = f"{_SHORT.get(precision, precision)} {peak:.0f} GOP/s"
        words.append(_flat_word(frame.right, y, said, taken))
    named: list[Box] = []
    for band in roofs.bandwidths:
        _slope(field, (band.level, band.gb_per_s, top), taken, (lines, words), named)
    return lines, words


def _flat_word(right: float, y: float, said: str, taken: list[Box]) -> svg.Element:
    """Above its line at the right; below it where another word is there."""
    at = next(
        (
            at
            for at in (y - 5, y + 15, y - 18)
            if not any(label_box(right, at, said, "end").meets(box) for box in taken)
        ),
        y - 5,
    )
    taken.append(label_box(right, at, said, "end"))
    return text(right, at, said, "roof-word", anchor="end")


def _slope(
    field: _Field,
    band: tuple[str, float, float],
    taken: list[Box],
    into: tuple[list[svg.Element], list[svg.Element]],
    words: list[Box],
) -> None:
    """From the left or lower edge up to the highest peak, its word along it."""
    x, y, (level, rate, top) = field.x, field.y, band
    start, end = max(x.low, y.low / rate), min(x.high, top / rate)
    if start >= end:
        return
    x1, y1, x2, y2 = x.at(start), y.at(start * rate), x.at(end), y.at(end * rate)
    angle, along = math.atan2(y2 - y1, x2 - x1), math.hypot(x2 - x1, y2 - y1)
    into[0].append(line(x1, y1, x2, y2, "roof"))
    for step in range(0, int(along), 9):
        at_x, at_y = x1 + math.cos(angle) * step, y1 + math.sin(angle) * step
        taken.append(Box(at_x - 3, at_y - 3, at_x + 3, at_y + 3))
    said = f"{level} {rate:.0f} GB/s"
    length = _WORD_PX * len(said)
    for start_px, above in ((_WORD_START, True), (_WORD_START, False), (_WORD_START + 1.1 * length, True)):
        boxes = _along((x1, y1), angle, (start_px, length), above=above)
        if along > start_px + length and not any(box.meets(word) for box in boxes for word in words):
            into[1].append(_slope_word((x1, y1), angle, start_px, said, above=above))
            words += boxes
            taken += boxes
            return


def _along(origin: tuple[float, float], angle: float, span: tuple[float, float], *, above: bool) -> list[Box]:
    """What a word beside a slope covers, in small boxes."""
    start, length = span
    up, down = (-14, 0) if above else (2, 16)
    found = []
    for step in range(int(start), int(start + length), 8):
        at_x, at_y = origin[0] + math.cos(angle) * step, origin[1] + math.sin(angle) * step
        found.append(Box(at_x - 4, at_y + up, at_x + 8, at_y + down))
    return found


def _slope_word(origin: tuple[float, float], angle: float, start: float, said: str, *, above: bool) -> svg.Element:
    at_x, at_y = origin[0] + math.cos(angle) * start, origin[1] + math.sin(angle) * start
    turn = svg.Rotate(round(math.degrees(angle), 1), round(at_x, 1), round(at_y, 1))
    shift = -5 if above else 14
    return svg.Text(
        x=round(at_x, 1), y=round(at_y + shift, 1), text=escape(said), class_=["roof-word"], transform=[turn]
    )  # fmt: skip


def _place(field: _Field, spot: _Spot) -> tuple[float, float]:
    frame = field.frame
    x, y = field.x.at(spot.intensity), field.y.at(spot.speed)
    return min(frame.right, max(frame.left, x)), min(frame.bottom, max(frame.top, y))


def _radius(field: _Field, spot: _Spot) -> float:
    """The area is the share of the time."""
    longest = max(layer.time_ms for layer in field.profile.layers)
    return max(2.5, (_LARGEST_RADIUS if field.wide else 11.0) * math.sqrt(spot.layer.time_ms / longest))


def _mark(field: _Field, spot: _Spot, x: float, y: float, radius: float) -> svg.Element:
    layer = spot.layer
    of_limit = "" if layer.share_of_limit is None else f", {percent(layer.share_of_limit)} of its limit"
    hover = (
        f"{layer.op} {layer.name}: {milliseconds(layer.time_ms)}, {percent(layer.share)} of the run, "
        f"{spot.speed:.3g} GOP/s, {layer.gb_per_s or 0:.3g} GB/s{of_limit}, bound by {layer.bound}"
    )
    look = "far" if (layer.share_of_limit or 0) < 0.5 else "near"
    if not field.y.holds(spot.speed):
        return arrow(x, y, "down" if spot.speed < field.y.low else "up", hover, look)
    if not field.x.holds(spot.intensity):
        return arrow(x, y, "left" if spot.intensity < field.x.low else "right", hover, look)
    return dot(x, y, radius, hover, look)


def _label(field: _Field, spot: _Spot, x: float, y: float, radius: float, taken: list[Box]) -> list[svg.Element]:
    """The operator with its share of the time, where there is room."""
    op = spot.layer.op.partition(" + ")[0]
    said = (
        f"{op} {percent(spot.layer.share)}"
        if not field.wide
        else f"{op} {short(spot.layer.name, 16)}, {percent(spot.layer.share)}"
    )
    room = Box(field.frame.left, field.frame.top, field.frame.right + 10, field.frame.bottom - 1)
    for reach in (4.0, 14.0, 26.0, 40.0):
        away, slant = radius + reach, 0.75 * (radius + reach)
        for at_x, at_y, anchor in (
            (x + away, y + 4, "start"), (x - away, y + 4, "end"), (x + slant, y + slant + 8, "start"),
            (x - slant, y + slant + 8, "end"), (x, y + away + 9, "middle"), (x + slant, y - slant, "start"),
            (x - slant, y - slant, "end"), (x, y - away - 2, "middle"),
        ):  # fmt: skip
            box = label_box(at_x, at_y, said, anchor)  # type: ignore[arg-type]
            if box.inside(room) and not any(box.meets(other) for other in taken):
                taken.append(box)
                label = text(at_x, at_y, said, "label", anchor=anchor)  # type: ignore[arg-type]
                return [label] if reach < 10 else [_leader(x, y, box), label]
    return []


def _leader(x: float, y: float, box: Box) -> svg.Element:
    to_x, to_y = min(box.right, max(box.left, x)), min(box.bottom, max(box.top, y))
    return line(x, y, to_x, to_y, "leader")
