"""A benchmark as one HTML file: nothing in it is loaded from elsewhere, and nothing runs."""

from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from typing import NamedTuple

from edgeward.measure.benching import words
from edgeward.measure.changes import Outcome
from edgeward.records.bench import ScenarioResult, Steady, Sweep
from edgeward.records.candidate import BenchMeasurement

_WIDE, _NARROW = 880.0, 330.0


class Told(NamedTuple):
    """All that a report tells: names and records of X and, compared, of the base."""

    names: tuple[str, ...]
    found: tuple[BenchMeasurement, ...]
    outcome: Outcome | None
    inputs: str
    command: str
    version: str


def to_html(told: Told) -> str:
    """The whole page."""
    style = files("edgeward.measure").joinpath("report.css").read_text(encoding="utf-8")
    x = told.found[0]
    title = f"{told.names[0]} on {x.target}"
    parts = [_comparison(told), _scenario(x.scenario), _sweep(x.sweep), _steady(x.steady), _numbers(told), _how(told)]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Benchmark of {escape(title)} · Edgeward</title>
<style>
{style}</style>
</head>
<body>
<header><p>Edgeward benchmark · {escape(x.target)} · {x.taken_at:%Y-%m-%d %H:%M %Z}</p>
<h1>{escape(told.names[0])}</h1></header>
<p class="verdict">{_unbroken(_verdict(told))}</p>
<main>
{_tiles(x)}
{"".join(part for part in parts if part)}
</main>
<footer>Edgeward {escape(told.version)} · for programs: result.json; the machine: env.json</footer>
</body>
</html>
"""


def _verdict(told: Told) -> str:
    x = told.found[0]
    if told.outcome is not None:
        return words.verdict(told.names[0], told.names[1], told.outcome)
    if x.scenario is not None:
        return words.of_scenario(x.scenario)[0]
    ms = words.milliseconds
    return f"Half of its answers take at most {ms(x.latency.p50_ms)}, 99 of 100 at most {ms(x.latency.p99_ms)}."


def _tiles(x: BenchMeasurement) -> str:
    memory = x.memory
    beside = f"model {words.size(memory.model_bytes)}, arena {words.size(memory.arena_bytes)}" if memory else ""
    tiles = (
        ("p50", words.milliseconds(x.latency.p50_ms), f"n {x.latency.runs:,}"),
        ("p99", words.milliseconds(x.latency.p99_ms), f"IQR {words.milliseconds(x.latency.iqr_ms)}"),
        ("Load and first run", words.milliseconds(x.cold_start_ms), f"first run {words.milliseconds(x.first_ms)}"),
        ("Peak memory", words.size(x.peak_memory_bytes), beside),
    )
    drawn = "".join(
        f'<div><dt>{escape(name)}</dt><dd class="now">{_unbroken(now)}</dd><dd class="was">{_unbroken(was)}</dd></div>'
        for name, now, was in tiles
    )
    return f'<dl class="tiles">{drawn}</dl>'


def _comparison(told: Told) -> str:
    if told.outcome is None:
        return ""
    outcome = told.outcome
    rows = [
        (one.metric, f"{one.ratio:.3f}", f"{one.ratio_ci[0]:.3f}–{one.ratio_ci[1]:.3f}", one.verdict)
        for one in outcome.changes
    ]
    checks = "".join(
        f'<li class="{"missed-gate" if check.failed else ""}">{_unbroken(words.of_check(check))}</li>'
        for check in outcome.checks
    )
    figure = _figure(lambda plots, width: plots.changes(outcome.changes, width))
    return _section(
        f"{told.names[0]} over {told.names[1]}",
        "Both took turns in generations of fresh processes; the intervals are over the generations (signed-rank, "
        "95 %). A difference under 2 % is none to speak of: where a model lies in memory makes as much.",
        figure + _table(("metric", "ratio", "95 % interval", "X is"), rows) + (f"<ul>{checks}</ul>" if checks else ""),
    )


def _scenario(found: ScenarioResult | None) -> str:
    if found is None:
        return ""
    said = "".join(f"<li>{_unbroken(line)}</li>" for line in words.of_scenario(found))
    rows = [
        (f"{one.rate_per_s:.4g}", words.milliseconds(one.p99_ms), f"{one.queries:,}", "kept" if one.kept else "missed")
        for one in found.tried
    ]
    tried = _table(("arrivals a second", "p99", "queries", "bound"), rows) if rows else ""
    return _section(f"Scenario: {found.name}", "", f"<ul>{said}</ul>{tried}")


def _sweep(found: Sweep | None) -> str:
    if found is None:
        return ""
    rows = [
        (words.of_point(one), words.milliseconds(one.p50_ms), words.milliseconds(one.p99_ms),
         one.error or f"{one.throughput_per_s:.4g}")
        for one in found.points
    ]  # fmt: skip
    return _section(
        "Threads and streams",
        "; ".join(words.of_sweep(found)),
        _figure(lambda plots, width: plots.settings(found, width))
        + _table(("setting", "p50", "p99", "a second"), rows),
    )


def _steady(found: Steady | None) -> str:
    if found is None:
        return ""
    return _section(
        "Burst and steady",
        "; ".join(words.of_steady(found)),
        _figure(lambda plots, width: plots.long_run(found, width)),
    )


def _numbers(told: Told) -> str:
    rows = [(name.strip(), *values) for name, values in words.lines(told.found).items()]
    return _section("All numbers", "One sample at a time.", _table(("", *told.names), rows))


def _how(told: Told) -> str:
    facts = (
        *(("Setting" if place == 0 else "Conditions", line) for place, line in enumerate(words.setting(told.found))),
        ("Inputs", told.inputs), ("Command", told.command), ("Model", told.found[0].model),
    )  # fmt: skip
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{_unbroken(value)}</dd>" for name, value in facts)
    return _section("How it was measured", "", f'<dl class="facts">{listed}</dl>')


def _figure(drawn: Callable[..., str]) -> str:
    """For wide pages and for narrow ones; without the package svg-py (extra optimize) the table has to do."""
    if find_spec("svg") is None:
        return ""
    from edgeward.measure.benching import plots

    wide = drawn(plots, _WIDE)
    if not wide:
        return ""
    return f'<figure><div class="wide">{wide}</div><div class="narrow">{drawn(plots, _NARROW)}</div></figure>'


def _section(title: str, told: str, body: str) -> str:
    said = f"<p>{_unbroken(told)}</p>" if told else ""
    return f"<section><h2>{escape(title)}</h2>{said}{body}</section>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f"<th{' class=left' if place == 0 else ''}>{escape(name)}</th>" for place, name in enumerate(head))
    body = "".join(
        f"<tr><th>{escape(row[0])}</th>" + "".join(f"<td>{_unbroken(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _unbroken(said: str) -> str:
    told = escape(said)
    for unit in ("%", "ms", "µs", "s", "MB", "kB", "mJ"):
        told = told.replace(f" {unit} ", f"&nbsp;{unit} ").replace(f" {unit};", f"&nbsp;{unit};")
        told = f"{told[: -len(unit) - 1]}&nbsp;{unit}" if told.endswith(f" {unit}") else told
    return told
