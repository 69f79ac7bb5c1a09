"""Axes, labels and marks as SVG: colours come from the page's classes, words are escaped here."""

import math
from collections.abc import Sequence
from html import escape
from typing import Literal, NamedTuple

import svg

Anchor = Literal["start", "middle", "end"]

NARROW = 500
"""Plots below this width are drawn for a phone."""

_CHARACTER_PX = 6.7
"""What a character of a 12 px label takes at most, on average, in the usual system fonts."""


class Axis(NamedTuple):
    """Values low..high laid along `start`..`start + length` pixels; `length` is negative upwards."""

    low: float
    high: float
    start: float
    length: float

    def at(self, value: float) -> float:
        """Where a value lies, kept inside the axis."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(1.0, max(0.0, share)) * self.length, 1)

    def holds(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self.low <= value <= self.high

    def ticks(self, wanted: int) -> list[tuple[float, str]]:
        """Round values with their words."""
        rough = (self.high - self.low) / wanted
        power = 10.0 ** math.floor(math.log10(rough))
        factor = next(factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
        step = power * factor
        digits = max(0, -math.floor(math.log10(step * 1.001)))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(index * step, signed(index * step, digits)) for index in range(first, last + 1)]


class Box(NamedTuple):
    """A rectangle that a label must not share with another."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether the two share some of their area."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)

    def inside(self, other: "Box") -> bool:
        """Whether the other holds all of this one."""
        across = self.left >= other.left and self.right <= other.right
        return across and self.top >= other.top and self.bottom <= other.bottom


def picture(width: float, height: float, title: str, description: str, elements: Sequence[svg.Element]) -> str:
    """A whole SVG with what a screen reader says of it."""
    told: list[svg.Element] = [svg.Title(text=escape(title)), svg.Desc(text=escape(description))]
    return svg.SVG(
        viewBox=svg.ViewBoxSpec(0, 0, width, round(height)),
        elements=[*told, *elements],
        extra={"role": "img", "aria-label": escape(f"{title}: {description}")},
    ).as_str()


def text(x: float, y: float, said: str, *classes: str, anchor: Anchor = "start") -> svg.Element:
    """A label; what it says is escaped."""
    return svg.Text(x=round(x, 1), y=round(y, 1), text=escape(said), class_=list(classes), text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, *classes: str) -> svg.Element:
    """A straight line."""
    return svg.Line(x1=round(x1, 1), y1=round(y1, 1), x2=round(x2, 1), y2=round(y2, 1), class_=list(classes))


def dot(x: float, y: float, radius: float, hover: str, *classes: str) -> svg.Element:
    """A dot that tells more under the pointer."""
    told = svg.Title(text=escape(hover))
    return svg.Circle(
        cx=round(x, 1), cy=round(y, 1), r=round(radius, 1), class_=["dot", *classes], elements=[told]
    )  # fmt: skip


def arrow(
    x: float, y: float, towards: Literal["up", "down", "left", "right"], hover: str, *classes: str
) -> svg.Element:
    """Stands at the edge of a plot for a value beyond it; it tells more under the pointer."""
    along, across = {"up": (0, 1), "down": (0, -1), "left": (1, 0), "right": (-1, 0)}[towards]
    corners = [
        (x + 9 * along + 5 * across, y + 9 * across + 5 * along),
        (x, y),
        (x + 9 * along - 5 * across, y + 9 * across - 5 * along),
    ]
    return path(corners, "dot", *classes, closed=True, hover=hover)


def path(points: Sequence[tuple[float, float]], *classes: str, closed: bool = False, hover: str = "") -> svg.Element:
    """Straight lines from point to point."""
    steps: list[svg.PathData] = [svg.L(round(x, 1), round(y, 1)) for x, y in points]
    steps[0] = svg.M(round(points[0][0], 1), round(points[0][1], 1))
    told: list[svg.Element] | None = [svg.Title(text=escape(hover))] if hover else None
    return svg.Path(d=[*steps, svg.Z()] if closed else steps, class_=list(classes), elements=told)


def shortened(said: str, width: float) -> str:
    """The label, with its middle left out where it is too long."""
    room = max(8, int(width / _CHARACTER_PX))
    if len(said) <= room:
        return said
    tail = (room - 1) // 2
    return f"{said[: room - 1 - tail]}…{said[-tail:]}"


def label_box(x: float, y: float, said: str, anchor: Anchor) -> Box:
    """What a label covers whose base line begins (or ends, or has its middle) at x, y."""
    width = len(said) * _CHARACTER_PX
    left = {"start": x, "end": x - width, "middle": x - width / 2}[anchor]
    return Box(left, y - 12, left + width, y + 4)


def spread(values: Sequence[float], *, margin: float) -> tuple[float, float]:
    """The range of the values with some air; never empty."""
    low, high = min(values), max(values)
    air = (high - low) * margin or abs(high) * 0.05 or 0.01
    return low - air, high + air


def signed(value: float, digits: int) -> str:
    """With a true minus sign, and none before a zero."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def scale(axis: Axis, y: float, wanted: int) -> list[svg.Element]:
    """The line below a plot with its ticks."""
    drawn = [line(axis.start, y, axis.start + axis.length, y, "axis")]
    for value, said in axis.ticks(wanted):
        x = axis.at(value)
        drawn += [line(x, y, x, y + 4, "tick"), text(x, y + 18, said, "soft", anchor="middle")]
    return drawn
