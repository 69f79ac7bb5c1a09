"""The plots with a row for each candidate: how its runs spread, and what quality it costs."""

import math
from collections.abc import Sequence

import svg

from edgeward.measure.drawing import NARROW, Axis, arrow, dot, line, path, picture, scale, shortened, spread, text
from edgeward.optimize import words
from edgeward.records.candidate import Latency, Report, RuntimeForecast, Trial

_GUTTER = 205.0
"""Room for the names at the left of a wide plot; on a narrow one they stand above their row."""


def latencies(report: Report, width: float) -> str:
    """How the runs of every candidate spread, as a hill each on one axis; empty when none was timed."""
    rows = [(t, t.latency_ms) for t in words.in_order(report) if t.latency_ms and t.latency_histogram]
    if not rows:
        return ""
    axis = _hill_axis(rows, width)
    drawn, y, told = list[svg.Element](), 0.0, list[str]()
    for trial, latency in rows:
        height = 40.0 if words.look(report, trial) in ("chosen", "given") else 22.0
        y += height + (28 if width < NARROW else 16)
        drawn += _hill_row(report, trial, latency, axis, y, height, width)
        told.append(
            f"{words.name(report, trial)}: p50 {words.milliseconds(latency.p50)}, p99 {words.milliseconds(latency.p99)}"
        )
    drawn += scale(axis, y + 12, 4 if width < NARROW else 6)
    drawn.append(text(axis.start + axis.length, y + 47, "one inference, ms (left is better)", "soft", anchor="end"))
    return picture(width, y + 52, "How long each inference took", "; ".join(told), drawn)


def _hill_axis(rows: Sequence[tuple[Trial, Latency]], width: float) -> Axis:
    start = 4.0 if width < NARROW else _GUTTER
    fastest = min(value for trial, _ in rows for value in trial.latency_histogram)
    slowest = max(latency.p50 for _, latency in rows)
    high = max(min(max(latency.p99 for _, latency in rows) * 1.04, 2 * slowest), slowest * 1.1)
    return Axis(max(0.0, fastest - 0.1 * (high - fastest)), high, start, width - start - 14)


def _hill_row(
    report: Report, trial: Trial, latency: Latency, axis: Axis, y: float, height: float, width: float
) -> list[svg.Element]:
    look = words.look(report, trial)
    drawn = [line(axis.start, y, axis.start + axis.length, y, "grid")]
    if hill := _hill(trial.latency_histogram, axis, y, height):
        drawn.append(path(hill, "hill", look, closed=True))
    for percentile in (latency.p50, latency.p95, latency.p99):
        if axis.holds(percentile):
            drawn.append(line(axis.at(percentile), y - 1, axis.at(percentile), y + 7, "mark", look))
    if not axis.holds(latency.p99):
        drawn.append(text(width, y - 4, f"p99 {words.milliseconds(latency.p99)} →", "soft", anchor="end"))
    if width < NARROW:
        return [*drawn, text(0, y - height - 5, _fitting(report, trial, width), look, "name")]
    return [*drawn, text(_GUTTER - 14, y, _fitting(report, trial, _GUTTER - 14), look, "name", anchor="end")]


def _fitting(report: Report, trial: Trial, width: float) -> str:
    """The trial's name; one that is too long is cut, and its number in the table tells it from others cut alike."""
    said = words.name(report, trial)
    number = words.in_order(report).index(trial) + 1
    return said if shortened(said, width) == said else f"{number} {shortened(said, width - 21)}"


def _hill(quantiles: Sequence[float], axis: Axis, y: float, height: float) -> list[tuple[float, float]]:
    """The density of the quantiles, smoothed by Silverman's rule and no finer than two pixels."""
    ordered = sorted(quantiles)
    middle = ordered[len(ordered) * 3 // 4] - ordered[len(ordered) // 4]
    width = max(0.9 * middle / 1.34 * len(ordered) ** -0.2, 2 * (axis.high - axis.low) / axis.length)
    places = [axis.low + (axis.high - axis.low) * index / 160 for index in range(161)]
    heights = [sum(math.exp(-0.5 * ((place - value) / width) ** 2) for value in ordered) for place in places]
    top = max(heights)
    tall = [
        (axis.at(at), y - height * high / top) for at, high in zip(places, heights, strict=True) if high > 0.003 * top
    ]
    return [(tall[0][0], y), *tall, (tall[-1][0], y)] if tall else []


def losses(report: Report, width: float) -> str:
    """The loss of quality of every candidate with its interval, against the gate; empty without any."""
    rows = [t for t in words.in_order(report) if t.quality_drop is not None and t.recipe != report.baseline.recipe]
    if not rows:
        return ""
    narrow, top = width < NARROW, 30.0
    row_height = 38.0 if narrow else 26.0
    limit = words.worst_shown(report, rows)
    ends = [end for t in rows for end in (*(t.quality_drop_ci or ()), t.quality_drop or 0.0) if abs(end) <= limit]
    low, high = spread([0.0, report.max_drop, *ends], margin=0.08)
    start = 4.0 if narrow else _GUTTER
    axis, bottom = Axis(low, high, start, width - start - (14 if narrow else 80)), top + row_height * len(rows)
    drawn = _loss_frame(report, axis, top, bottom)
    for index, trial in enumerate(rows):
        drawn += _loss_row(report, trial, axis, top + row_height * (index + 0.5), width)
    told = "; ".join(f"{trial.recipe} {words.drop(report, trial.quality_drop)}" for trial in rows)
    return picture(width, bottom + 42, f"The {words.drop_word(report)} of {report.metric}", told, drawn)


def _loss_frame(report: Report, axis: Axis, top: float, bottom: float) -> list[svg.Element]:
    gate, end = axis.at(report.max_drop), axis.start + axis.length
    percent = 100.0 if words.is_error(report) else 1.0
    shown = Axis(axis.low * percent, axis.high * percent, axis.start, axis.length)
    unit = ", %" if words.is_error(report) else ""
    return [
        text(gate, top - 11, f"gate {words.gate(report)}", "gate-word", anchor="middle"),
        *scale(shown, bottom, 4 if axis.length < 400 else 6),
        text(
            end,
            bottom + 36,
            f"{words.drop_word(report)} of {report.metric}{unit} (left is better)",
            "soft",
            anchor="end",
        ),
    ]


def _loss_field(report: Report, axis: Axis, y: float, half: float) -> list[svg.Element]:
    """What is too much, the gate and zero, as high as one row: names stay clear of them."""
    gate, end = axis.at(report.max_drop), axis.start + axis.length
    return [
        svg.Rect(x=gate, y=y - half, width=round(end - gate, 1), height=2 * half, class_=["beyond"]),
        line(axis.at(0), y - half, axis.at(0), y + half, "zero"),
        line(gate, y - half, gate, y + half, "gate"),
    ]


def _loss_row(report: Report, trial: Trial, axis: Axis, y: float, width: float) -> list[svg.Element]:
    state, value = words.state(report, trial), trial.quality_drop or 0.0
    said = words.drop(report, value)
    narrow, base = width < NARROW, y - 6 if width < NARROW else y + 4
    name = (
        text(0, base, _fitting(report, trial, width - 70), state, "name")
        if narrow
        else text(_GUTTER - 14, base, _fitting(report, trial, _GUTTER - 14), state, "name", anchor="end")
    )
    y, half = (y + 6, 8.0) if narrow else (y, 13.0)
    drawn = [*_loss_field(report, axis, y, half), name, text(width, base, said, state, "figure", anchor="end")]
    if trial.quality_drop_ci:
        low, high = trial.quality_drop_ci
        drawn.append(line(axis.at(low), y, axis.at(high), y, "interval", state))
    hover = f"{trial.recipe}: {words.drop_word(report)} {said}, 95 % interval {words.drop_interval(report, trial)}"
    if axis.holds(value):
        return [*drawn, dot(axis.at(value), y, 4.5, hover, state)]
    return [*drawn, arrow(axis.at(value), y, "right" if value > axis.high else "left", hover, state)]


def forecasts(report: Report, width: float) -> str:
    """What int8 was forecast to gain over the model as given in each runtime, and what it did; empty without any."""
    told = [one for one in (report.forecast.runtimes if report.forecast else ()) if one.speedup is not None]
    if not told:
        return ""
    narrow, top = width < NARROW, 12.0
    row_height = 40.0 if narrow else 30.0
    values = [value for one in told for value in (one.speedup, one.measured_speedup) if value is not None]
    start = 4.0 if narrow else 120.0
    axis = Axis(0.0, max(1.2, 1.08 * max(values)), start, width - start - (20 if narrow else 200))
    bottom = top + row_height * len(told)
    drawn = [line(axis.at(1), top, axis.at(1), bottom, "zero"), *scale(axis, bottom, 4 if narrow else 6)]
    for index, one in enumerate(told):
        drawn += _forecast_row(one, axis, top + row_height * (index + 0.5), width)
    drawn.append(text(axis.start + axis.length, bottom + 36, "× the model as given", "soft", anchor="end"))
    said = "; ".join(f"{one.runtime}: {_forecast_words(one)}" for one in told)
    return picture(width, bottom + 42, "Forecast against truth", said, drawn)


def _forecast_row(one: RuntimeForecast, axis: Axis, y: float, width: float) -> list[svg.Element]:
    narrow, said = width < NARROW, _forecast_words(one)
    name = text(0, y - 8, one.runtime, "name") if narrow else text(106, y + 4, one.runtime, "name", anchor="end")
    figure = text(width, y - 8 if narrow else y + 4, said, "soft", anchor="end")
    y = y + 6 if narrow else y
    drawn = [line(axis.start, y, axis.start + axis.length, y, "grid"), name, figure]
    if one.speedup is not None and one.measured_speedup is not None:
        drawn.append(line(axis.at(one.speedup), y, axis.at(one.measured_speedup), y, "interval"))
    if one.speedup is not None:
        drawn.append(dot(axis.at(one.speedup), y, 5, f"{one.runtime}: forecast {one.speedup:.2f}×", "forecast"))
    if one.measured_speedup is not None:
        drawn.append(dot(axis.at(one.measured_speedup), y, 5, f"{one.runtime}: {said}", "truth"))
    return drawn


def _forecast_words(one: RuntimeForecast) -> str:
    told = f"forecast {one.speedup:.1f}×" if one.speedup is not None else "no forecast"
    return told if one.measured_speedup is None else f"{told}, measured {one.measured_speedup:.1f}×"
