"""A profile as one HTML file: nothing in it is loaded from elsewhere, and nothing runs."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from edgeward.measure.profiling.requirements import sentence
from edgeward.measure.profiling.roofline import roofline
from edgeward.measure.profiling.table import by_time
from edgeward.measure.profiling.words import figures, milliseconds, percent, placed, short, summary
from edgeward.records.profile import ModelProfile, PlacedNode, ProfiledLayer

_WIDE, _NARROW = 880.0, 330.0
_SHOWN = 30
_SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_FATES = {
    "ran": "ran", "fused": "fused into", "folded": "computed once, when the model is loaded",
    "removed": "costs nothing: it only says how a tensor is read, or was not needed",
}  # fmt: skip


def css() -> str:
    """The style of every report, and what a profile adds."""
    common = files("edgeward.measure").joinpath("report.css").read_text(encoding="utf-8")
    return common + files("edgeward.measure.profiling").joinpath("profile.css").read_text(encoding="utf-8")


def to_html(found: ModelProfile, flame: str = "") -> str:
    """The whole page: figures, losses, roofline, layers, placement, and how it was measured."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Profile of {escape(found.model)} on {escape(found.target)} · Edgeward</title>
<style>
{css()}</style>
</head>
<body>
{_head(found)}
<main>
{_tiles(found)}
{_losses(found)}
{_roofline(found)}
{_layers(found)}
{_flame(flame)}
{_placement(found)}
{_how(found)}
</main>
<footer>Edgeward {escape(found.edgeward_version)} · the same figures for programs are in profile.json and layers.csv;
trace.json opens in Perfetto</footer>
</body>
</html>
"""


def _unbroken(said: str) -> str:
    """Escaped, with every number on the line of its unit."""
    told = escape(said)
    for unit in ("%", "ms", "µs", "GOP/s", "GB/s"):
        told = told.replace(f" {unit}", f"&nbsp;{unit}")
    return told


def _head(found: ModelProfile) -> str:
    first, *notes = summary(found)
    gates = "".join(
        f"<li{'' if outcome.met else ' class=' + chr(34) + 'missed-gate' + chr(34)}>{_unbroken(sentence(outcome))}</li>"
        for outcome in found.requirements
    )
    listed = gates + "".join(f"<li>{_unbroken(note)}</li>" for note in (*notes, *found.remarks))
    return (
        f"<header><p>Edgeward profile · {escape(found.target)} · {found.taken_at:%Y-%m-%d %H:%M %Z}</p>"
        f"<h1>{escape(found.model)} in {escape(found.roofs.runtime)}</h1></header>"
        f'<p class="verdict">{_unbroken(first)}</p><ul class="notes">{listed}</ul>'
    )


def _tiles(found: ModelProfile) -> str:
    slowest = by_time(found.layers)[0]
    device, share = max(found.devices.items(), key=lambda pair: pair[1])
    tiles = (
        ("One run", milliseconds(found.time_ms), f"n {found.runs}, the mean of the faster half"),
        ("Share of the limit", percent(found.share_of_limit), f"{milliseconds(found.limit_ms)} at best"),
        ("Longest layer", milliseconds(slowest.time_ms), f"{percent(slowest.share)}: {slowest.op.partition(' + ')[0]}"),
        ("Placement", f"{percent(share)} {device}", f"of the layers' time, {len(found.nodes)} operators"),
    )
    drawn = "".join(
        f'<div><dt>{escape(name)}</dt><dd class="now">{_unbroken(now)}</dd><dd class="was">{_unbroken(was)}</dd></div>'
        for name, now, was in tiles
    )
    return f'<dl class="tiles">{drawn}</dl>'


def _losses(found: ModelProfile) -> str:
    listed = "".join(
        f"<li><b>{_unbroken(figures(loss))}</b><br>{_unbroken(loss.advice)}</li>" for loss in found.losses[:3]
    )
    rest = "".join(f"<li>{_unbroken(figures(loss))}</li>" for loss in found.losses[3:])
    more = (
        f'<details><summary>{len(found.losses) - 3} smaller ones</summary><ul class="reasons">{rest}</ul></details>'
        if rest
        else ""
    )
    told = f'<ol class="losses">{listed}</ol>{more}' if listed else "<p>Nothing to speak of.</p>"
    return (
        "<section><h2>Where the most is lost</h2><p>Time beyond the measured limit, by its reason; of changes of "
        f"layout, conversions and operators that fell back all of it.</p>{told}</section>"
    )


def _roofline(found: ModelProfile) -> str:
    wide = roofline(found, _WIDE)
    if not wide:
        return ""
    return (
        "<section><h2>Roofline</h2><p>Each dot is a layer, its area the share of the time. The lines are limits that "
        "were measured here with the runtime's own kernels: slopes are levels of memory, flat lines are precisions "
        "(dashed: not used by this model).</p>"
        f'<figure><div class="wide">{wide}</div><div class="narrow">{roofline(found, _NARROW)}</div></figure>'
        '<ul class="legend"><li><i class="near"></i>at half of its limit or above</li>'
        '<li><i class="far"></i>below half of it</li></ul></section>'
    )


def _layers(found: ModelProfile) -> str:
    layers = by_time(found.layers)
    heads = ("time", "%", "Σ %", "in", "GOP/s", "GB/s", "of limit", "bound")
    head = '<th class="left">layer</th><th class="left">shape</th>' + "".join(f"<th>{name}</th>" for name in heads)
    rows = "".join(map(_row, layers[:_SHOWN]))
    between = (
        f'<tr class="between"><th>between the layers<small>the call itself</small></th><td></td>'
        f"<td>{_unbroken(milliseconds(found.between_ms))}</td><td>{100 * found.between_ms / found.time_ms:.1f}</td>"
        + "<td></td>" * 6
        + "</tr>"
    )
    rest = layers[_SHOWN:]
    more = (
        f"<details><summary>{len(rest)} layers more</summary>{_table(head, ''.join(map(_row, rest)))}</details>"
        if rest
        else ""
    )
    return (
        f'<section class="long profile"><h2>Layers, the longest first</h2><p>Shares are of one run of '
        f"{_unbroken(milliseconds(found.time_ms))} without the profiler.</p>"
        f"{_table(head, rows + between)}{more}</section>"
    )


def _table(head: str, rows: str) -> str:
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _row(layer: ProfiledLayer) -> str:
    cells = (
        _unbroken(milliseconds(layer.time_ms)), f"{100 * layer.share:.1f}", f"{100 * layer.cumulative:.0f}",
        escape(f"{layer.device} {_SHORT.get(layer.precision, layer.precision)}"), _number(layer.gops_per_s),
        _number(layer.gb_per_s), "" if layer.share_of_limit is None else f"{100 * layer.share_of_limit:.0f}&nbsp;%",
        "" if layer.bound == "unknown" else layer.bound,
    )  # fmt: skip
    return (
        f"<tr><th>{escape(short(layer.name, 34))}<small>{escape(layer.op)}</small></th>"
        f'<td class="left">{escape(layer.shape)}</td>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _flame(flame: str) -> str:
    if not flame:
        return ""
    return (
        "<section><h2>Flame graph</h2><p>Where the CPU was, sampled while the model ran: each box is a function, as "
        f"wide as its share of the samples, on top of the one that called it.</p><figure>{flame}</figure></section>"
    )


def _placement(found: ModelProfile) -> str:
    rows = "".join(map(_node, found.nodes))
    head = '<th class="left">operator</th><th class="left">what became of it</th><th class="left">where</th>'
    return (
        f'<section class="long profile"><h2>Placement of every operator</h2><p>{_unbroken(placed(found))}</p>'
        f"<details><summary>{len(found.nodes)} operators</summary>{_table(head, rows)}</details></section>"
    )


def _node(node: PlacedNode) -> str:
    what = _FATES[node.fate] + (f" {escape(short(node.layer, 40))}" if node.fate == "fused" else "")
    return (
        f"<tr><th>{escape(short(node.name, 40))}<small>{escape(node.op)}</small></th>"
        f'<td class="left">{what}</td><td class="left">{escape(node.device)}</td></tr>'
    )


def _how(found: ModelProfile) -> str:
    setting = found.setting
    facts: Sequence[tuple[str, str]] = (
        ("Machine", f"{setting.cpu}, {setting.kernel}"),
        ("Conditions", setting.conditions),
        ("Runtime", f"{setting.runtime_version}, {setting.thread_count} thread(s)"),
        ("Layers' times", "by the runtime's own profiler, in turn with runs without it; the mean of the faster half"),
        ("Limits", found.roofs.setting),
        ("Model", found.digest),
    )
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    repeat = f"<h3>To repeat it</h3><pre><code>{escape(found.command)}</code></pre>" if found.command else ""
    return f'<section class="long"><h2>How it was measured</h2><dl class="facts">{listed}</dl>{repeat}</section>'
