"""The plot of latency against quality, drawn for the width it is shown at."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import svg

from edgeward.measure.drawing import (
    NARROW,
    Anchor,
    Axis,
    Box,
    arrow,
    dot,
    label_box,
    line,
    path,
    picture,
    scale,
    spread,
    text,
)
from edgeward.optimize import words
from edgeward.records.candidate import Latency, Report, Trial

_LARGEST_RADIUS = 12.0


class _Point(NamedTuple):
    trial: Trial
    latency: Latency
    score: float


class _Field(NamedTuple):
    report: Report
    frame: Box
    x: Axis
    y: Axis


def tradeoff(report: Report, width: float) -> str:
    """Latency against quality, a dot per candidate with the area of its file; empty when none was measured."""
    points = [
        _Point(trial, trial.latency_ms, score)
        for trial in words.in_order(report)
        if trial.latency_ms and (score := words.quality(report, trial)) is not None
    ]
    if not points:
        return ""
    height = 300.0 if width < NARROW else 390.0
    frame = Box(52, 34, width - 14, height - 48)
    field = _Field(report, frame, _latency_axis(report, points, frame), _quality_axis(report, points, frame))
    taken: list[Box] = []
    drawn = [*_frame(field), *_limits(field, taken), *_front(field, points)]
    for point in points:
        drawn += _error_bars(field, point)
    largest = max(point.trial.size_bytes or 0 for point in points)
    spots = [
        (point, field.x.at(point.latency.p50), field.y.at(point.score), _radius(point, largest)) for point in points
    ]
    drawn += [_mark(field, *spot) for spot in reversed(spots)]
    taken += [Box(x - r, y - r, x + r, y + r) for _, x, y, r in spots]
    taken += [Box(x, y - 2, field.x.at(point.latency.p95), y + 2) for point, x, y, _ in spots]
    for point, x, _, _ in spots:
        ends = [field.y.at(end) for end in _interval(report, point.trial)]
        taken += [Box(x - 2, min(ends), x + 2, max(ends))] if ends else []
    for number, (point, x, y, radius) in enumerate(spots, start=1):
        drawn += _label(field, point.trial, number, x, y, radius, taken)
    return picture(width, height, "Latency and quality", words.verdict(report), drawn)


def _latency_axis(report: Report, points: Sequence[_Point], frame: Box) -> Axis:
    slowest = max(point.latency.p50 for point in points)
    tail = min(max(point.latency.p95 for point in points), 1.4 * slowest)
    budget = report.budget.latency_p50_ms or 0.0
    high = max(tail, slowest * 1.08, budget * 1.05 if budget < 3 * slowest else 0.0)
    return Axis(0.0, high, frame.left, frame.right - frame.left)


def _quality_axis(report: Report, points: Sequence[_Point], frame: Box) -> Axis:
    worst = words.worst_shown(report, [point.trial for point in points])
    shown = [point for point in points if (point.trial.quality_drop or 0.0) <= worst]
    values = [point.score for point in shown or points]
    values += [end for point in shown for end in _interval(report, point.trial)]
    values += [value for loss in (0.0, report.max_drop) if (value := words.after_drop(report, loss)) is not None]
    low, high = spread(values, margin=0.1)
    return Axis(low, high, frame.bottom, frame.top - frame.bottom)


def _interval(report: Report, trial: Trial) -> tuple[float, ...]:
    """The ends of the interval of the score; none where it has no finite ends."""
    ends = trial.quality_drop_ci or ()
    scores = [words.after_drop(report, end) for end in ends if math.isfinite(end)]
    return tuple(score for score in scores if score is not None) if len(scores) == 2 else ()


def _frame(field: _Field) -> list[svg.Element]:
    frame, wide = field.frame, field.frame.right > NARROW
    better = "lower" if words.is_error(field.report) else "higher"
    drawn = [
        text(0, 14, f"{field.report.metric} ({better} is better)", "soft"),
        text(frame.right, frame.bottom + 40, "median latency, ms (left is better)", "soft", anchor="end"),
    ]
    for value, said in field.y.ticks(5):
        y = field.y.at(value)
        drawn += [line(frame.left, y, frame.right, y, "grid"), text(frame.left - 8, y + 4, said, "soft", anchor="end")]
    return drawn + scale(field.x, frame.bottom, 6 if wide else 4)


def _limits(field: _Field, taken: list[Box]) -> list[svg.Element]:
    """The gate and the budget, each with its word."""
    frame, drawn = field.frame, list[svg.Element]()
    gate = words.after_drop(field.report, field.report.max_drop)
    if gate is not None:
        y, said = field.y.at(gate), f"gate {words.score(field.report, gate)}"
        at_y = y - 6 if words.is_error(field.report) else y + 15
        drawn += [line(frame.left, y, frame.right, y, "gate"), text(frame.left + 4, at_y, said, "gate-word")]
        taken += [label_box(frame.left + 4, at_y, said, "start"), Box(frame.left, y - 1, frame.right, y + 1)]
    budget = field.report.budget.latency_p50_ms
    if budget is not None and field.x.holds(budget):
        x, said = field.x.at(budget), f"budget {words.milliseconds(budget)}"
        anchor: Anchor = "end" if x > frame.left + 110 else "start"
        at_x = x - 5 if anchor == "end" else x + 5
        drawn += [
            line(x, frame.top - 8, x, frame.bottom, "gate"),
            text(at_x, frame.bottom - 7, said, "gate-word", anchor=anchor),
        ]
        taken += [label_box(at_x, frame.bottom - 7, said, anchor), Box(x - 1, frame.top - 8, x + 1, frame.bottom)]
    return drawn


def _front(field: _Field, points: Sequence[_Point]) -> list[svg.Element]:
    """Joins those of the front that kept the limits and are the best at their latency: the front counts size too."""
    sign = -1 if words.is_error(field.report) else 1
    best, corners = -math.inf, list[tuple[float, float]]()
    for point in sorted(points, key=lambda point: (point.latency.p50, -sign * point.score)):
        kept = point.trial.recipe in field.report.pareto and not point.trial.violations
        if kept and sign * point.score > best:
            best = sign * point.score
            corners.append((field.x.at(point.latency.p50), field.y.at(point.score)))
    return [path(corners, "front")] if len(corners) > 1 else []


def _error_bars(field: _Field, point: _Point) -> list[svg.Element]:
    if not field.y.holds(point.score):
        return []
    state = words.state(field.report, point.trial)
    x, y = field.x.at(point.latency.p50), field.y.at(point.score)
    bars = [line(x, y, field.x.at(point.latency.p95), y, "bar", state)]
    ends = [field.y.at(end) for end in _interval(field.report, point.trial)]
    return [*bars, line(x, min(ends), x, max(ends), "bar", state)] if ends and ends[0] != ends[1] else bars


def _radius(point: _Point, largest: int) -> float:
    return max(3.5, _LARGEST_RADIUS * math.sqrt((point.trial.size_bytes or 0) / largest)) if largest else 5.0


def _mark(field: _Field, point: _Point, x: float, y: float, radius: float) -> svg.Element:
    report, trial = field.report, point.trial
    hover = (
        f"{words.name(report, trial)}: {words.milliseconds(point.latency.p50)}, {report.metric} "
        f"{words.score(report, point.score)}, {words.size(trial.size_bytes)}; {words.outcome(report, trial)}"
    )
    if not field.y.holds(point.score):
        return arrow(x, y, "up" if point.score > field.y.high else "down", hover, words.look(report, trial))
    return dot(x, y, radius, hover, words.look(report, trial))


def _label(
    field: _Field, trial: Trial, number: int, x: float, y: float, radius: float, taken: list[Box]
) -> list[svg.Element]:
    """The trial's name where there is room, else its number in the table, else nothing."""
    frame, look = field.frame, words.look(field.report, trial)
    numbers_only = frame.right < NARROW and look not in ("chosen", "given")
    name = words.name(field.report, trial)
    room = Box(frame.left, frame.top - 20, frame.right + 12, frame.bottom - 1)
    for said in [str(number)] if numbers_only else [name, str(number)]:
        for reach in (5.0, 16.0, 28.0):
            for at_x, at_y, anchor in _places(x, y, radius + reach):
                box = label_box(at_x, at_y, said, anchor)
                if box.inside(room) and not any(box.meets(other) for other in taken):
                    taken.append(box)
                    label = text(at_x, at_y, said, "label", look, anchor=anchor)
                    return [label] if reach < 10 else [_leader(x, y, radius, box), label]
    return []


def _places(x: float, y: float, reach: float) -> list[tuple[float, float, Anchor]]:
    slant = 0.75 * reach
    return [
        (x + reach, y + 4, "start"), (x - reach, y + 4, "end"),
        (x, y - reach - 2, "middle"), (x, y + reach + 9, "middle"),
        (x + slant, y - slant, "start"), (x + slant, y + slant + 8, "start"),
        (x - slant, y - slant, "end"), (x - slant, y + slant + 8, "end"),
    ]  # fmt: skip


def _leader(x: float, y: float, radius: float, box: Box) -> svg.Element:
    """A thin line from the rim of a dot to its label."""
    end_x, end_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
    distance = math.hypot(end_x - x, end_y - y) or 1.0
    return line(x + (end_x - x) * radius / distance, y + (end_y - y) * radius / distance, end_x, end_y, "leader")
