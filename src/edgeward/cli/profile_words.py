"""A profile on a terminal: the table, the losses and the gate's outcome."""

import shlex
import shutil
import sys
from pathlib import Path

from edgeward.cli import console
from edgeward.measure.profiling.requirements import sentence
from edgeward.measure.profiling.table import by_time
from edgeward.measure.profiling.words import figures, milliseconds, placed, short, summary
from edgeward.records.profile import ModelProfile, ProfiledLayer

_SHOWN = 24
_WIDE = 110
_LOSSES = 3


def command_line() -> str:
    """What was typed."""
    return shlex.join(["edgeward", *sys.argv[1:]])


def show(found: ModelProfile, order: str, output: Path | None, *, flame: bool) -> None:
    """As wide as the terminal: the shapes only where there is room."""
    width = shutil.get_terminal_size().columns
    is_wide = width >= _WIDE
    layers = by_time(found.layers) if order == "time" else list(found.layers)
    room = max(12, width - (84 if is_wide else 61))
    rows = [_row(layer, room, is_wide=is_wide) for layer in layers[:_SHOWN]]
    rest = layers[_SHOWN:]
    if rest:
        rows.append(_whole(f"{len(rest)} layers more", sum(layer.time_ms for layer in rest), found, is_wide=is_wide))
    rows.append(_whole("between the layers", found.between_ms, found, is_wide=is_wide))
    heads = (
        "layer",
        *(("shape",) if is_wide else ()),
        "time",
        "%",
        *(("Σ %",) if is_wide else ()),
        "where",
        "GOP/s",
        "GB/s",
        "limit",
        "bound",
    )
    console.table("", heads, rows, right=(2, 3, 4, 6, 7, 8) if is_wide else (1, 2, 4, 5, 6))
    for line in summary(found):
        console.paragraph(line)
    console.say()
    console.paragraph("Where the most is lost:" if found.losses else "Nothing to speak of is lost.")
    for number, loss in enumerate(found.losses[:_LOSSES], start=1):
        console.paragraph(f"  {number}. {figures(loss)}. {loss.advice}")
    console.say()
    console.paragraph(placed(found))
    for outcome in found.requirements:
        if outcome.met:
            console.paragraph(sentence(outcome))
    for remark in found.remarks:
        console.paragraph(f"Note: {remark}.")
    console.say(f"{found.setting.cpu}, {found.setting.runtime_version}, threads {found.setting.thread_count}")
    console.say(found.setting.conditions)
    if output is not None:
        console.say(f"{output / 'report.html'} has the roofline, all layers and the placement of every operator")
    elif flame:
        console.say("flame.svg has the flame graph")


def _row(layer: ProfiledLayer, room: int, *, is_wide: bool) -> tuple[str, ...]:
    limit = "" if layer.share_of_limit is None else f"{100 * layer.share_of_limit:.0f} %"
    op, _, more = layer.op.partition(" + ")
    op = f"{op}+{more.count(' + ') + 1}" if more else op
    return (
        f"{op} {short(layer.name, max(4, room - len(op) - 1))}", *((layer.shape,) if is_wide else ()),
        milliseconds(layer.time_ms), f"{100 * layer.share:.1f}",
        *((f"{100 * layer.cumulative:.0f}",) if is_wide else ()),
        f"{layer.device} {_SHORT.get(layer.precision, layer.precision)}", _number(layer.gops_per_s),
        _number(layer.gb_per_s), limit, "" if layer.bound == "unknown" else layer.bound,
    )  # fmt: skip


def _whole(name: str, time_ms: float, found: ModelProfile, *, is_wide: bool) -> tuple[str, ...]:
    """A row that is no layer."""
    share = f"{100 * time_ms / found.time_ms:.1f}"
    empty = ("",) * (6 if is_wide else 5)
    return (name, *(("",) if is_wide else ()), milliseconds(time_ms), share, *empty)


_SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
