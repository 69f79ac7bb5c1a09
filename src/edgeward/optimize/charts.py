"""The pictures of a report, as inline SVG. Colours come from the page's style sheet, so that they follow its mode."""

import math
from collections.abc import Sequence
from typing import Any

import svg

from edgeward.measure.bench import HISTOGRAM_SHARES
from edgeward.records.candidate import Report, Trial

WIDTH, LEFT, RIGHT = 720.0, 64.0, 24.0


class Axis:
    """Maps values onto pixels, and picks round marks."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        margin = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
        self.low, self.high, self._start, self._end = low - margin, high + margin, start, end

    def at(self, value: float) -> float:
        return self._start + (value - self.low) / (self.high - self.low) * (self._end - self._start)

    def marks(self, count: int = 5) -> list[float]:
        raw = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step) + 1)]


def pareto(report: Report) -> str:
    """p50 against quality; a dot's area is the file's size, a line joins what nothing else beats."""
    trials = [trial for trial in report.trials if trial.latency_ms and trial.quality]
    height, top, bottom = 340.0, 20.0, 46.0
    points = [(trial, trial.latency_ms.p50, trial.quality[report.metric]) for trial in trials if trial.latency_ms]
    gate = _gate(report)
    x = Axis(min(p for _, p, _ in points), max(p for _, p, _ in points), LEFT, WIDTH - RIGHT)
    levels = [q for _, _, q in points] + ([gate] if gate is not None else [])
    y = Axis(min(levels), max(levels), height - bottom, top)
    largest = max(trial.size_bytes or 1 for trial in trials)
    elements: list[svg.Element] = [*_frame(x, y, height - bottom, top, "p50, milliseconds", report.metric)]
    if gate is not None:
        elements.append(svg.Line(x1=LEFT, x2=WIDTH - RIGHT, y1=y.at(gate), y2=y.at(gate), class_=["gate"]))
        elements.append(_text(WIDTH - RIGHT, y.at(gate) - 5, "gate", "end", "gate-label"))
    front = sorted((p, q) for trial, p, q in points if trial.recipe in report.pareto)
    if len(front) > 1:
        elements.append(svg.Polyline(points=_points([(x.at(p), y.at(q)) for p, q in front]), class_=["front"]))
    taken = [(x.at(p) - 9, y.at(q) + 4, 18.0) for _, p, q in points]
    for trial, p, q in sorted(points, key=lambda point: _rank(report, point[0])):
        radius = 4 + 9 * math.sqrt((trial.size_bytes or 1) / largest)
        told = f"{trial.recipe}: {p:.3f} ms, {report.metric} {q:.4f}, {trial.size_bytes or 0} bytes"
        elements.append(
            svg.Circle(
                cx=x.at(p), cy=y.at(q), r=radius, class_=[_class(report, trial)], elements=[svg.Title(text=told)]
            )
        )
        elements.extend(_label(x.at(p), y.at(q), radius, trial.recipe, taken))
    return _drawing(height, "Latency against quality", elements)


def latency(report: Report) -> str:
    """The share of runs that took no longer than a time, for every candidate."""
    height, top, bottom = 300.0, 16.0, 46.0
    trials = [trial for trial in report.trials if trial.latency_histogram]
    longest = max(trial.latency_histogram[97] for trial in trials)
    x = Axis(min(trial.latency_histogram[0] for trial in trials), longest, LEFT, WIDTH - RIGHT)
    y = Axis(0.04, 0.96, height - bottom, top)
    elements = [*_frame(x, y, height - bottom, top, "one inference, milliseconds", "share of runs")]
    for trial in sorted(trials, key=lambda trial: -_rank(report, trial)):
        pairs = zip(trial.latency_histogram, HISTOGRAM_SHARES, strict=False)
        coordinates = _points([(x.at(value), y.at(share)) for value, share in pairs if value <= longest])
        kind = _class(report, trial)
        told = svg.Title(text=trial.recipe)
        elements.append(svg.Polyline(points=coordinates, class_=["curve", kind], elements=[told]))
        if kind != "other" and trial.latency_ms:
            place, level = x.at(trial.latency_ms.p50) + 10, y.at(0.5 if kind == "baseline" else 0.25)
            elements.append(_text(place, level, trial.recipe, "start", f"name {kind}"))
    return _drawing(height, "Distribution of latency", elements)


def drops(report: Report) -> str:
    """The drop of each candidate with its 95 % interval, against the gate."""
    trials = [trial for trial in report.trials if trial.quality_drop is not None and trial.quality_drop_ci]
    row, top, bottom, left = 26.0, 14.0, 46.0, 210.0
    height = top + bottom + row * len(trials)
    edges = [edge for trial in trials for edge in (trial.quality_drop_ci or ()) if math.isfinite(edge)]
    x = Axis(min([*edges, 0.0]), max([*edges, report.max_drop]), left, WIDTH - RIGHT)
    end = height - bottom
    name = "relative rise" if report.metric in ("mse", "mae", "rmse") else "drop"
    elements: list[svg.Element] = [*_marks_below(x, end, top, f"{name} of {report.metric}, 95 % interval")]
    elements.append(svg.Line(x1=x.at(0), x2=x.at(0), y1=top, y2=end, class_=["zero"]))
    elements.append(svg.Line(x1=x.at(report.max_drop), x2=x.at(report.max_drop), y1=top, y2=end, class_=["gate"]))
    elements.append(_text(x.at(report.max_drop) + 4, top + 8, "gate", "start", "gate-label"))
    for index, trial in enumerate(trials):
        low, high = trial.quality_drop_ci or (0.0, 0.0)
        middle, kind = top + row * (index + 0.5), _class(report, trial)
        elements.append(_text(left - 12, middle + 4, trial.recipe, "end", f"name {kind}"))
        elements.append(svg.Line(x1=x.at(low), x2=x.at(high), y1=middle, y2=middle, class_=["interval", kind]))
        elements.append(svg.Circle(cx=x.at(trial.quality_drop or 0), cy=middle, r=4.5, class_=[kind]))
    return _drawing(height, "Loss of quality", elements)


def _gate(report: Report) -> float | None:
    """The quality that may not be undercut, None for errors, whose gate is relative."""
    if report.metric in ("mse", "mae", "rmse"):
        return None
    return report.baseline.quality[report.metric] - report.max_drop


def _class(report: Report, trial: Trial) -> str:
    if report.chosen is not None and trial.recipe == report.chosen.recipe:
        return "chosen"
    return "baseline" if trial.recipe == report.baseline.recipe else "other"


def _rank(report: Report, trial: Trial) -> int:
    return ("chosen", "baseline", "other").index(_class(report, trial))


def _label(x: float, y: float, radius: float, text: str, taken: list[tuple[float, float, float]]) -> list[svg.Element]:
    """The name beside its dot, where no other name stands yet; none where there is no room (the dot tells it)."""
    wide = len(text) * 6.4
    for place, anchor in ((x + radius + 4, "start"), (x - radius - 4, "end")):
        begin = place if anchor == "start" else place - wide
        if begin < LEFT or begin + wide > WIDTH:
            continue
        for level in (y + 4, y - 12, y + 20, y - 26, y + 34):
            if all(abs(level - other) > 12 or begin >= b + w or begin + wide <= b for b, other, w in taken):
                taken.append((begin, level, wide))
                return [_text(place, level, text, anchor, "name")]
    return []


def _frame(x: Axis, y: Axis, end: float, top: float, below: str, beside: str) -> list[svg.Element]:
    elements = _marks_below(x, end, top, below)
    for mark in y.marks(4):
        elements.append(svg.Line(x1=LEFT, x2=WIDTH - RIGHT, y1=y.at(mark), y2=y.at(mark), class_=["grid"]))
        elements.append(_text(LEFT - 8, y.at(mark) + 4, f"{mark:.4g}", "end", "mark"))
    elements.append(_text(LEFT - 8, top - 4, beside, "start", "axis"))
    return elements


def _marks_below(x: Axis, end: float, top: float, name: str) -> list[svg.Element]:
    elements: list[svg.Element] = []
    for mark in x.marks():
        elements.append(svg.Line(x1=x.at(mark), x2=x.at(mark), y1=top, y2=end, class_=["grid"]))
        elements.append(_text(x.at(mark), end + 18, f"{mark:.4g}", "middle", "mark"))
    elements.append(_text(WIDTH - RIGHT, end + 38, name, "end", "axis"))
    return elements


def _points(pairs: Sequence[tuple[float, float]]) -> list[Any]:
    return [round(coordinate, 1) for pair in pairs for coordinate in pair]


def _text(x: float, y: float, text: str, anchor: str, classes: str) -> svg.Element:
    side = {"start": "start", "middle": "middle", "end": "end"}[anchor]
    return svg.Text(x=round(x, 1), y=round(y, 1), text=text, text_anchor=side, class_=classes.split())  # type: ignore[arg-type]


def _drawing(height: float, title: str, elements: Sequence[svg.Element]) -> str:
    return svg.SVG(
        viewBox=svg.ViewBoxSpec(0, 0, WIDTH, height), class_=["plot"], elements=[svg.Title(text=title), *elements]
    ).as_str()
