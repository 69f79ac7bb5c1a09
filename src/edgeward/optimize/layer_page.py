"""The page's sections about layers: what int8 was forecast to gain and did, and where the time goes."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from edgeward.optimize import rows, words
from edgeward.optimize.forecast import is_static_int8, reasons
from edgeward.records.candidate import Layer, Report, RuntimeForecast, Trial

_WIDE, _NARROW = 880.0, 320.0
_SHOWN = 24
"""So many layers are shown at once; the others are a click away."""
_FORECAST_LEGEND = (
    '<ul class="legend"><li><i class="forecast"></i>forecast</li><li><i class="chosen"></i>measured</li></ul>'
)
_HEADS = (
    '<div class="layer-heads" aria-hidden="true"><span>layer</span><span>time</span><span>int8</span>'
    "<span>noise</span></div>"
)
_LONGEST_NAME = 32
_MENTIONED = 0.02
_NOISY_DB = 20.0
"""Below, the noise that int8 adds is a tenth of the signal and more."""


def forecast_section(report: Report) -> str:
    """What int8 was forecast to gain before the work, set against what was measured after it; empty without one."""
    told = report.forecast
    if told is None:
        return ""
    if not told.runtimes:
        return f"<section><h2>What int8 was forecast to gain</h2><p>{_sentence(told.summary)}.</p></section>"
    wide = rows.forecasts(report, _WIDE)
    drawn = _figure(wide, rows.forecasts(report, _NARROW)) + _FORECAST_LEGEND if wide else ""
    listed = "".join(_runtime(report, one) for one in told.runtimes)
    return (
        f"<section><h2>What int8 was forecast to gain, and what it did</h2><p>{_sentence(told.summary)}. Before the "
        f"search, {_covered(told.covered)} ran alone in float and in int8, in {told.took_s:.1f} s.</p>{drawn}"
        f'<dl class="facts">{listed}</dl>{_reasons(report)}</section>'
    )


def _sentence(said: str) -> str:
    """Without its full stop; "int8" stays as it is written."""
    return escape(said).replace(" %", "&nbsp;%")


def _covered(share: float) -> str:
    return "each distinct layer" if share >= 1 else f"layers with {_percent(share)} of the work"


def _runtime(report: Report, one: RuntimeForecast) -> str:
    if one.gain is None:
        return f"<dt>{escape(one.runtime)}</dt><dd>not forecast: {escape(one.why)}</dd>"
    against = f"{one.speedup:.2f}× as fast as the model as given, " if one.speedup is not None else ""
    told = f"forecast {against}{one.gain:.2f}× as its own float ({escape(_counted(one.why))})"
    return f"<dt>{escape(one.runtime)}</dt><dd>{told}<small>{_truth(report, one)}</small></dd>"


def _counted(why: str) -> str:
    """ "9 gain, 3 keep, 1 lose" as layers."""
    return f"of its layers {why}" if why[:1].isdigit() else why


def _truth(report: Report, one: RuntimeForecast) -> str:
    if one.measured_speedup is not None:
        own = f", {one.measured_gain:.2f}× as its own float" if one.measured_gain is not None else ""
        alone = ", each alone, before it was stopped" if one.is_alone else ""
        return f"measured {one.measured_speedup:.2f}× as fast{own}: {escape(one.recipe)}{alone}"
    tried = [trial for trial in report.trials if trial.runtime == one.runtime and is_static_int8(trial)]
    told = next((trial for trial in tried if trial.failure), None)
    return f"not timed: {escape(told.recipe)} {escape(told.failure or '')}" if told else "not tried"


def _reasons(report: Report) -> str:
    """Why layers gain or lose, as a list; what is hardly any of the time is counted together."""
    told = report.forecast
    found = reasons(told.layers) if told is not None else ()
    if told is None or not found:
        return ""
    shown = [one for one in found if one.share >= _MENTIONED] or found[:1]
    listed = "".join(
        f"<li><b>{_does(len(one.layers), one.verb)}</b>, {_percent(one.share)} of the time: {escape(one.why)}</li>"
        for one in shown
    )
    rest = sum(len(one.layers) for one in found) - sum(len(one.layers) for one in shown)
    if rest:
        listed += (
            f"<li>{_count(rest)}, {_percent(sum(o.share for o in found if o not in shown))} of the time: others</li>"
        )
    return f'<h3>Why, in {escape(told.runtimes[0].runtime)}</h3><ul class="reasons">{listed}</ul>'


def _does(layers: int, verb: str) -> str:
    """ "1 layer gains", "3 layers stay as fast"."""
    first, _, rest = verb.partition(" ")
    return escape(f"{_count(layers)} {first}{'s' if layers == 1 else ''} {rest}".strip())


def _percent(share: float) -> str:
    return f"{share * 100:.0f}&nbsp;%"


def _count(layers: int) -> str:
    return f"{layers} layer" if layers == 1 else f"{layers} layers"


def layers_section(report: Report) -> str:
    """Where the time of both models goes, layer by layer, with the noise that int8 adds; empty without any."""
    if not report.layers and not report.chosen_layers:
        return ""
    same = report.chosen is None or report.chosen.recipe == report.baseline.recipe
    chosen = Counter[str]()
    for layer in () if same else report.chosen_layers:
        chosen[layer.name] += layer.time_ms or 0.0  # type: ignore[assignment]  # a Counter of milliseconds
    shown = report.layers or report.chosen_layers
    known = {layer.name for layer in shown}
    others = [layer for layer in report.chosen_layers if layer.name not in known] if not same else []
    longest = max([layer.time_ms or 0.0 for layer in shown] + list(chosen.values()), default=0.0)
    placed = {layer.name: layer.placement for layer in reversed(report.chosen_layers)} if not same else {}
    scale = _Scale(longest, _forecast_runtime(report))
    listed = [_row(layer, chosen.get(layer.name), placed.get(layer.name, ""), scale) for layer in shown]
    listed += [_row(layer, layer.time_ms, layer.placement, scale, is_new=True) for layer in _by_kind(others)]
    return (
        f'<section class="long"><h2>Where the time goes</h2><p>{_layers_told(report, same=same)}</p>'
        f"{_legend(same=same)}{_listed(listed)}{_placement(report, same=same)}</section>"
    )


def _by_kind(layers: Sequence[Layer]) -> list[Layer]:
    """What the chosen model has besides, such as conversions: together by kind and place, most time first."""
    groups: dict[tuple[str, str], list[Layer]] = {}
    for layer in layers:
        groups.setdefault((layer.op, layer.placement), []).append(layer)
    made = [
        Layer(
            name=f"{len(mine)} × {op}" if len(mine) > 1 else op, op="", placement=placement,
            time_ms=sum(layer.time_ms or 0.0 for layer in mine),
        )
        for (op, placement), mine in groups.items()
    ]  # fmt: skip
    return sorted(made, key=lambda layer: -(layer.time_ms or 0.0))


def _layers_told(report: Report, *, same: bool) -> str:
    both = "" if same or report.chosen is None else f" and of {escape(report.chosen.recipe)}"
    noise = any(layer.sqnr_db is not None for layer in report.layers)
    told = (
        " dB is signal over noise where that layer alone computes in int8: below "
        f"{_NOISY_DB:.0f} it hears a tenth of noise and more." if noise else ""
    )  # fmt: skip
    runtime = _forecast_runtime(report)
    gain = f" × is what int8 was forecast to gain in {escape(runtime)}." if runtime else ""
    alone = any("timed alone" in layer.placement for layer in (*report.layers, *report.chosen_layers))
    account = "by the runtime's own account" + (" where it keeps one, else each timed alone" if alone else "")
    return f"Each layer of your model{both} in the order they run, {account}.{gain}{told}"


def _forecast_runtime(report: Report) -> str:
    """Whose forecast is shown: that of the chosen model's runtime, or of the one that was forecast to be fastest."""
    told = [one.runtime for one in (report.forecast.runtimes if report.forecast else ()) if one.gain is not None]
    if report.chosen is not None and report.chosen.runtime in told and report.chosen.recipe != report.baseline.recipe:
        return report.chosen.runtime
    return told[0] if told else ""


def _legend(*, same: bool) -> str:
    chosen = "" if same else '<li><i class="chosen"></i>chosen</li>'
    return f'<ul class="legend"><li><i class="given"></i>your model</li>{chosen}</ul>'


def _listed(listed: list[str]) -> str:
    rest = listed[_SHOWN:]
    more = f"<details><summary>{len(rest)} layers more</summary>{_layer_list(rest)}</details>" if rest else ""
    return f"{_HEADS}{_layer_list(listed[:_SHOWN])}{more}"


def _layer_list(listed: list[str]) -> str:
    return f'<ol class="layers">{"".join(listed)}</ol>'


class _Scale(NamedTuple):
    """What a bar of full width stands for, and whose forecast is shown."""

    longest_ms: float
    runtime: str


def _row(layer: Layer, chosen_ms: float | None, placement: str, scale: _Scale, *, is_new: bool = False) -> str:
    given = "" if is_new else _bar("given", layer.time_ms, scale.longest_ms, layer.placement)
    chosen = "" if chosen_ms is None else _bar("chosen", chosen_ms, scale.longest_ms, placement)
    op = "only in the chosen model" if is_new else layer.op
    return (
        f'<li><div class="layer">{escape(short(layer.name))}<small>{escape(op)}</small></div>'
        f'<div class="bars">{given}{chosen}</div><div class="gain">{_gain(layer, scale.runtime)}</div>'
        f'<div class="noise">{_noise(layer)}</div></li>'
    )


def _bar(look: str, time_ms: float | None, longest_ms: float, placement: str) -> str:
    """A bar as wide as its share of the longest."""
    if time_ms is None:
        return ""
    width, said = 100 * time_ms / longest_ms if longest_ms else 0.0, words.milliseconds(time_ms)
    return (
        f'<div class="bar {look}" title="{escape(placement)}"><span class="track">'
        f'<i style="width:{width:.1f}%"></i></span><span>{said}</span></div>'
    )


def _gain(layer: Layer, runtime: str) -> str:
    gain = layer.forecast_gains.get(runtime)
    return "" if gain is None else f"{gain:.1f}×"


def _noise(layer: Layer) -> str:
    if layer.sqnr_db is None:
        return ""
    look = ' class="noisy"' if layer.sqnr_db < _NOISY_DB else ""
    return f"<span{look}>{layer.sqnr_db:.0f}&nbsp;dB</span>"


def _placement(report: Report, *, same: bool) -> str:
    """Where the layers ran and in what, with their share of the time."""
    told = [("your model", report.baseline, report.layers)]
    if not same and report.chosen is not None:
        told.append((report.chosen.recipe, report.chosen, report.chosen_layers))
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{_placed(trial, layers)}</dd>" for name, trial, layers in told)
    return f'<h3>Placement</h3><dl class="facts">{listed}</dl>'


def _placed(trial: Trial, layers: tuple[Layer, ...]) -> str:
    if not layers:
        return f"{escape(trial.runtime)} keeps no account of its layers"
    shares = Counter[str]()
    for layer in layers:
        shares[layer.placement] += layer.share or 0.0  # type: ignore[assignment]  # a Counter of shares
    parts = [f"{_percent(share)} {escape(where)}" for where, share in shares.most_common()]
    return f"{escape(trial.runtime)}: {', '.join(parts)}"


def short(name: str) -> str:
    """The part of a layer's name that tells most: of names that a converter joined with semicolons the last that is no
    variable, and of a path its end."""
    parts = [part for part in name.split(";") if "ReadVariableOp" not in part] or [name]
    path = parts[-1].strip("/").split("/")
    said = "/".join(path[-2:])
    return said if len(said) <= _LONGEST_NAME else f"…{said[1 - _LONGEST_NAME :]}"


def _figure(wide: str, narrow: str) -> str:
    return f'<figure><div class="wide">{wide}</div><div class="narrow">{narrow}</div></figure>'
