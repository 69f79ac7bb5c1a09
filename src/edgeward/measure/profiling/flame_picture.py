"""Stacks as a flame graph: one SVG without scripts; what does not fit into a box is told under the pointer."""

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import NamedTuple

import svg

from edgeward.measure.drawing import picture
from edgeward.measure.profiling.stacks import Frame, Stack

_WIDTH, _ROW, _TOP = 880.0, 18.0, 26.0
_LEAST_PX = 0.7
_CHARACTER_PX = 6.3
_DEEPEST = 48
_RUNTIMES = ("onnxruntime", "LiteRt", "litert", "openvino", "tbb", "generated")

__all__ = ["Stack", "drawn"]


class _Box(NamedTuple):
    frame: Frame
    samples: int
    parts: "Mapping[Frame, _Box]"


def drawn(stacks: Mapping[Stack, int], title: str) -> str:
    """The outermost function at the bottom, each box as wide as its share of the samples."""
    whole = sum(stacks.values())
    root = _Box(Frame("all samples", ""), whole, _parts(stacks, 0))
    deepest = min(_DEEPEST, max(_depth(root), 2))
    height = _TOP + deepest * _ROW + 4
    elements = _row(root, 0.0, _WIDTH, 0, (height, whole))
    told = f"{whole} samples of {title}"
    heading: list[svg.Element] = [svg.Text(x=0, y=13, text=escape(told), class_=["soft"])]
    return picture(_WIDTH, height, "Flame graph", told, [*heading, *elements])


def _parts(stacks: Mapping[Stack, int], depth: int) -> dict[Frame, _Box]:
    groups: dict[Frame, Counter[Stack]] = {}
    for stack, count in stacks.items():
        if len(stack) > depth:
            groups.setdefault(stack[depth], Counter())[stack] += count
    return {
        frame: _Box(frame, sum(group.values()), _parts(group, depth + 1) if depth < _DEEPEST else {})
        for frame, group in sorted(groups.items(), key=lambda pair: (-sum(pair[1].values()), pair[0]))
    }


def _depth(box: _Box) -> int:
    return 1 + max((_depth(part) for part in box.parts.values()), default=0)


def _row(box: _Box, left: float, width: float, level: int, of: tuple[float, int]) -> list[svg.Element]:
    if width < _LEAST_PX or level >= _DEEPEST:
        return []
    height, whole = of
    y = height - (level + 1) * _ROW - 2
    share = 100 * box.samples / whole
    hover = (
        f"{box.frame.name} ({box.frame.file}): {box.samples} samples, {share:.1f} %"
        if box.frame.file
        else f"{whole} samples"
    )
    shape = svg.Rect(
        x=round(left, 1), y=round(y, 1), width=round(max(0.5, width - 0.6), 1), height=_ROW - 1, rx=1,
        class_=["flame", _look(box.frame)], elements=[svg.Title(text=escape(hover))],
    )  # fmt: skip
    made: list[svg.Element] = [shape]
    room = int((width - 6) / _CHARACTER_PX)
    if room >= 3:
        name = box.frame.name if len(box.frame.name) <= room else f"{box.frame.name[: room - 1]}…"
        made.append(svg.Text(x=round(left + 3, 1), y=round(y + 12.5, 1), text=escape(name), class_=["flame-word"]))
    at = left
    for part in box.parts.values():
        wide = width * part.samples / box.samples
        made += _row(part, at, wide, level + 1, of)
        at += wide
    return made


def _look(frame: Frame) -> str:
    if frame.file in ("python", "kernel", ""):
        return frame.file or "all"
    return "runtime" if any(word in frame.file for word in _RUNTIMES) else "other"
