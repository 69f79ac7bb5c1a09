"""The pictures of a benchmark: settings, intervals, a long run."""

from collections.abc import Sequence

import svg

from edgeward.measure.benching.words import milliseconds, of_point
from edgeward.measure.drawing import NARROW, Axis, Box, dot, label_box, line, path, picture, scale, text
from edgeward.records.bench import Change, Steady, Sweep

_LOOKS = {"no difference": "given", "unclear": "given", "slower": "missed", "more": "missed"}


def settings(found: Sweep, width: float) -> str:
    """Throughput against latency, a dot for each setting; empty where none gave a number."""
    points = [one for one in found.points if one.p50_ms and one.throughput_per_s]
    if not points:
        return ""
    frame = Box(64, 30, width - 14, (260 if width < NARROW else 330) - 48)
    x = Axis(0, 1.15 * max(one.p50_ms or 0 for one in points), frame.left, frame.right - frame.left)
    y = Axis(0, 1.12 * max(one.throughput_per_s or 0 for one in points), frame.bottom, frame.top - frame.bottom)
    drawn = [text(0, 14, "answers a second (higher is better)", "soft"), *_grid(y, frame)]
    drawn += [*scale(x, frame.bottom, 4), _under(frame, "p50, ms (left is better)")]
    taken: list[Box] = []
    for one in points:
        look = "chosen" if one in (found.fastest, found.most) else "given"
        at_x, at_y = x.at(one.p50_ms or 0), y.at(one.throughput_per_s or 0)
        drawn.append(dot(at_x, at_y, 6, f"{of_point(one)}: {milliseconds(one.p50_ms)}", look))
        for lift in (4, -12, 20, -28, 36):
            left = label_box(at_x + 10, at_y + lift, of_point(one), "start").right < width
            box = label_box(at_x + (10 if left else -10), at_y + lift, of_point(one), "start" if left else "end")
            if not any(box.meets(other) for other in taken):
                taken.append(box)
                drawn.append(text(at_x + (10 if left else -10), at_y + lift, of_point(one), "label", look,
                                  anchor="start" if left else "end"))  # fmt: skip
                break
    return picture(width, frame.bottom + 48, "Threads and streams", "; ".join(map(of_point, points)), drawn)


def changes(found: Sequence[Change], width: float) -> str:
    """The ratio of each metric with its interval."""
    left, step = 92.0, 30.0
    ends = [end for one in found for end in one.ratio_ci]
    low, high = max(0.5, min([*ends, 0.95])), min(2.0, max([*ends, 1.05]))
    axis = Axis(low, high, left, width - left - 14)
    bottom = step * len(found) + 14
    one_x = axis.at(1.0)
    drawn = [line(one_x, 4, one_x, bottom, "zero"), *scale(axis, bottom, 4 if width < NARROW else 8)]
    for place, one in enumerate(found):
        y = 20 + step * place
        look = _LOOKS.get(one.verdict, "chosen")
        told = f"{one.metric}: {one.ratio:.3f}, {one.ratio_ci[0]:.3f}–{one.ratio_ci[1]:.3f}: {one.verdict}"
        drawn += [
            text(0, y + 4, one.metric),
            line(axis.at(one.ratio_ci[0]), y, axis.at(one.ratio_ci[1]), y, "interval", look),
            dot(axis.at(one.ratio), y, 5, told, look),
        ]
    drawn.append(text(width - 14, bottom + 36, "X over the base (1: the same)", "soft", anchor="end"))
    return picture(width, bottom + 44, "Changes", "ratios with 95 % intervals", drawn)


def long_run(found: Steady, width: float) -> str:
    """The median of each window, over time."""
    frame = Box(64, 30, width - 14, (220 if width < NARROW else 260) - 48)
    values = [one.p50_ms for one in found.windows]
    x = Axis(0, max(found.took_s, 1e-9), frame.left, frame.right - frame.left)
    y = Axis(0, 1.2 * max([*values, found.burst_p50_ms]), frame.bottom, frame.top - frame.bottom)
    burst = y.at(found.burst_p50_ms)
    drawn = [text(0, 14, "p50 of each window, ms", "soft"), *_grid(y, frame), *scale(x, frame.bottom, 4)]
    drawn += [
        line(frame.left, burst, frame.right, burst, "gate"),
        text(frame.right, burst - 6, "burst", "gate-word", anchor="end"),
    ]
    corners = [(x.at(one.at_s), y.at(one.p50_ms)) for one in found.windows]
    drawn += [path(corners, "front")] if len(corners) > 1 else []
    drawn += [dot(*corner, 3.5, milliseconds(value), "chosen") for corner, value in zip(corners, values, strict=True)]
    drawn.append(_under(frame, "seconds"))
    return picture(width, frame.bottom + 48, "A long run", "median latency over time", drawn)


def _grid(axis: Axis, frame: Box) -> list[svg.Element]:
    drawn: list[svg.Element] = []
    for value, said in axis.ticks(4):
        y = axis.at(value)
        drawn += [line(frame.left, y, frame.right, y, "grid"), text(frame.left - 8, y + 4, said, "soft", anchor="end")]
    return drawn


def _under(frame: Box, said: str) -> svg.Element:
    return text(frame.right, frame.bottom + 38, said, "soft", anchor="end")
