"""Report → one HTML file that a person likes to read; nothing in it is loaded from elsewhere, and nothing runs."""

from html import escape
from importlib.resources import files
from typing import Any, NamedTuple

import msgspec

from edgeward.optimize import layer_page, plots, rows, words
from edgeward.optimize.words import summary_lines
from edgeward.records.candidate import Report, Step, Trial
from edgeward.records.model import Dataset

__all__ = ["summary_lines", "to_html"]

_WIDE, _NARROW = 880.0, 320.0


def to_html(report: Report) -> str:
    """The whole page: verdict, figures, plots, every trial, and how it was measured."""
    css = files("edgeward.measure").joinpath("report.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(report.model)} on {escape(report.target)} · Edgeward</title>
<style>
{css}</style>
</head>
<body>
{_head(report)}
<main>
{_tiles(report)}
{_tradeoff(report)}
{_latencies(report)}
{_losses(report)}
{layer_page.forecast_section(report)}
{layer_page.layers_section(report)}
{_done(report)}
{_table(report)}
{_refused(report)}
{_how(report)}
</main>
<footer>Edgeward {escape(report.edgeward_version)} · the same figures for programs are in report.json</footer>
</body>
</html>
"""


def _head(report: Report) -> str:
    sentence, *notes = summary_lines(report)
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f"<header><p>Edgeward optimize · {escape(report.target)} · {report.taken_at:%Y-%m-%d %H:%M %Z}</p>"
        f"<h1>{escape(report.model)}</h1></header>"
        f'<p class="verdict">{_unbroken(sentence)}</p>{_reason(report, sentence)}'
        + (f'<ul class="notes">{listed}</ul>' if listed else "")
    )


def _unbroken(said: str) -> str:
    """Escaped, with every percent sign kept on the line of its number."""
    return escape(said).replace(" %", "&nbsp;%")


def _reason(report: Report, sentence: str) -> str:
    """Why this one, unless the verdict has said it."""
    if report.reason.casefold() in sentence.casefold():
        return ""
    return f'<p class="reason">{escape(report.reason)}.</p>'


class _Tile(NamedTuple):
    label: str
    before: str
    after: str
    remark: str


def _tiles(report: Report) -> str:
    """Four figures of the model chosen (or of the nearest miss), each under what it was."""
    shown = report.chosen or next((t for t in report.trials if t.recipe == report.nearest), report.baseline)
    same = shown.recipe == report.baseline.recipe
    state = "given" if same else words.state(report, shown)
    drawn = "".join(_tile(tile, same=same) for tile in _figures(report, shown))
    return f'<dl class="tiles {state}">{drawn}</dl>'


def _figures(report: Report, shown: Trial) -> tuple[_Tile, ...]:
    given = report.baseline
    loss = f"{words.drop_word(report)} {words.drop(report, shown.quality_drop)}, gate {words.gate(report)}"
    return (
        _Tile(
            words.timed(report, "Latency, median"), _p50(given), _p50(shown),
            f"{shown.speedup_p50 or 1:.2f}× as fast",
        ),
        _Tile(f"Quality, {report.metric}", _score(report, given), _score(report, shown), loss),
        _Tile(
            "File size", words.size(given.size_bytes), words.size(shown.size_bytes),
            _share(given.size_bytes, shown.size_bytes),
        ),
        _Tile(
            words.timed(report, "Peak memory"), words.size(given.peak_memory_bytes),
            words.size(shown.peak_memory_bytes), _share(given.peak_memory_bytes, shown.peak_memory_bytes),
        ),
    )  # fmt: skip


def _p50(trial: Trial) -> str:
    return words.milliseconds(trial.latency_ms.p50 if trial.latency_ms else None)


def _score(report: Report, trial: Trial) -> str:
    return words.score(report, words.quality(report, trial))


def _share(before: int | None, after: int | None) -> str:
    return f"{words.share(after, before)} of it" if before and after else ""


def _tile(tile: _Tile, *, same: bool) -> str:
    was = "as given" if same else f"was {tile.before}" + (f" · {tile.remark}" if tile.remark else "")
    return (
        f'<div><dt>{escape(tile.label)}</dt><dd class="now">{escape(tile.after)}</dd>'
        f'<dd class="was">{_unbroken(was)}</dd></div>'
    )


def _figure(wide: str, narrow: str) -> str:
    return f'<figure><div class="wide">{wide}</div><div class="narrow">{narrow}</div></figure>'


def _tradeoff(report: Report) -> str:
    wide = plots.tradeoff(report, _WIDE)
    if not wide:
        return ""
    states = {words.state(report, trial) for trial in report.trials if trial.latency_ms}
    entries = (
        ("chosen", "chosen", "chosen" in states),
        ("given", "your model", True),
        ("kept", "kept the limits", "kept" in states),
        ("missed", "missed a limit", "missed" in states),
        ("front", "best for its latency", 'class="front"' in wide),
        ("gate", "limit", True),
    )
    legend = "".join(f'<li><i class="{mark}"></i>{said}</li>' for mark, said, there in entries if there)
    return (
        f"<section><h2>{words.timed(report, 'Speed against quality')}</h2><p>"
        "The area of a dot is the size of the file. Lines to the right "
        "reach the 95th percentile of latency, upright lines are the 95&nbsp;% interval of quality. Numbers are those "
        f"of the table.</p>{_figure(wide, plots.tradeoff(report, _NARROW))}"
        f'<ul class="legend">{legend}</ul></section>'
    )


def _latencies(report: Report) -> str:
    wide = rows.latencies(report, _WIDE)
    if not wide:
        return ""
    return (
        f"<section><h2>{words.timed(report, 'How long each inference took')}</h2><p>"
        "A hill is high where runs were many; its three ticks are "
        "the median, the 95th and the 99th percentile. Each hill is drawn to its own height, from 100 percentiles."
        f"</p>{_figure(wide, rows.latencies(report, _NARROW))}</section>"
    )


def _losses(report: Report) -> str:
    wide = rows.losses(report, _WIDE)
    if not wide:
        return ""
    return (
        f"<section><h2>What quality it costs</h2><p>The {words.drop_word(report)} of {escape(report.metric)} from your "
        "model, with its 95&nbsp;% interval. Right of the gate is too much.</p>"
        f"{_figure(wide, rows.losses(report, _NARROW))}</section>"
    )


def _table(report: Report) -> str:
    heads = (
        ("Recipe", "precision · runtime", "left"),
        ("Outcome", "", "left"),
        (report.metric, f"{words.drop_word(report)} [95 %]", ""),
        (words.timed(report, "p50"), "p95 · p99", ""),
        (words.timed(report, "Speed"), "[95 %]", ""),
        ("Size", "update" if report.update else "", ""),
        (words.timed(report, "Load"), "first run", ""),
        (words.timed(report, "Memory"), "peak", ""),
        *([("Energy", "without idle", "")] if report.baseline.energy else []),
    )
    head = "".join(
        f'<th scope="col" class="{place}">{escape(name)}<small>{escape(under)}</small></th>'
        for name, under, place in heads
    )
    listed = "".join(
        _row(report, number, trial)
        for number, trial in enumerate(words.in_order(report), start=1)
        if trial.failure is None
    )
    return (
        '<section class="long"><h2>Every candidate</h2><div class="scroll" role="region" tabindex="0" '
        'aria-label="Every candidate"><table><thead><tr><th scope="col" class="number">#</th>'
        f"{head}</tr></thead><tbody>{listed}</tbody></table></div>{_recipes(report)}</section>"
    )


def _row(report: Report, number: int, trial: Trial) -> str:
    state = words.state(report, trial)
    about = " · ".join(part for part in (trial.precision, trial.runtime) if part)
    given = f"{trial.recipe} (your model)" if trial.recipe == report.baseline.recipe else trial.recipe
    loss = "" if trial.quality_drop is None else words.drop(report, trial.quality_drop)
    interval = words.drop_interval(report, trial)
    cells = (
        (_score(report, trial), f"{loss} [{interval}]" if interval else loss),
        (_p50(trial), words.tails(trial)),
        (f"{trial.speedup_p50:.2f}×" if trial.speedup_p50 else words.NOTHING, words.ratio_interval(trial)),
        (words.size(trial.size_bytes), words.size(trial.delta_bytes) if trial.delta_bytes else ""),
        (words.milliseconds(trial.load_ms), _under(trial.first_ms)),
        (words.size(trial.peak_memory_bytes), ""),
        *([words.energy(trial)] if report.baseline.energy else []),
    )
    return (
        f'<tr class="{state}"><td class="number">{number}</td><th scope="row">{escape(given)}'
        f'<small>{escape(about)}</small></th><td class="left outcome">{escape(words.outcome(report, trial))}</td>'
        + "".join(_cell(*cell) for cell in cells)
        + "</tr>"
    )


def _under(value: float | None) -> str:
    return words.milliseconds(value) if value is not None else ""


def _cell(value: str, under: str) -> str:
    small = f"<small>{escape(under)}</small>" if under else ""
    return f"<td>{escape(value)}{small}</td>"


def _recipes(report: Report) -> str:
    listed = "".join(
        f"<dt>{escape(words.name(report, trial))}</dt><dd>{_made(trial)}</dd>"
        for trial in words.in_order(report)
        if trial.failure is None
    )
    return f'<details><summary>What each recipe did</summary><dl class="facts">{listed}</dl></details>'


def _done(report: Report) -> str:
    """What each pass did to the chosen model, and how near its answers are; empty where it is the model as given."""
    chosen = report.chosen
    if chosen is None or not chosen.steps:
        return ""
    told = [note.partition(": ") for note in chosen.notes]
    steps = "".join(
        f"<li><code>{escape(step.use)}</code>{_options(step)}"
        + "".join(f"<br>{escape(note)}" for use, _, note in told if use == step.use and note)
        + "</li>"
        for step in chosen.steps
    )
    uses = {step.use for step in chosen.steps}
    others = "".join(
        f"<li>{escape(note)}</li>"
        for note, (use, _, rest) in zip(chosen.notes, told, strict=True)
        if use not in uses or not rest
    )
    return (
        f"<section><h2>What was done to it</h2><p>The passes of {escape(chosen.recipe)}, in their order, and what they "
        f'said.</p><ol class="steps">{steps}</ol>'
        + (f'<ul class="reasons">{others}</ul>' if others else "")
        + "</section>"
    )


def _options(step: Step) -> str:
    told = ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in step.options.items())
    return f"<small>{escape(told)}</small>" if told else ""


def _refused(report: Report) -> str:
    """What was not timed with the others, by reason; empty where all was."""
    groups = words.unmeasured(report)
    if not groups:
        return ""
    listed = "".join(
        f"<dt>{escape(', '.join(recipes))}</dt><dd>{escape(reason)}</dd>" for reason, recipes in groups.items()
    )
    return (
        '<section class="long"><h2>What was left out, and why</h2><p>A candidate that cannot be chosen any more is '
        f'stopped early; one that fails is told with its reason.</p><dl class="facts refused">{listed}</dl></section>'
    )


def _made(trial: Trial) -> str:
    steps = " → ".join(_step(step) for step in trial.steps) or "no steps"
    notes = "".join(f"<small>{escape(note)}</small>" for note in trial.notes)
    return f"{escape(steps)}{notes}"


def _step(step: Step) -> str:
    options = ", ".join(f"{name} {_plain(value)}" for name, value in step.options.items())
    return f"{step.use} ({options})" if options else step.use


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _how(report: Report) -> str:
    setting, timed = report.setting, report.baseline.latency_ms
    runs = f"{timed.runs} of each candidate, after " if timed else ""
    facts = (
        ("Machine", f"{setting.device_id}: {setting.cpu or 'CPU unknown'}"),
        ("Threads", words.threads(report)),
        ("Software", f"{setting.runtime_version}, Linux {setting.kernel}"),
        ("Conditions", setting.conditions or f"governor {setting.cpu_governor}"),
        ("Runs", f"{runs}{setting.warmup_runs} for warming up, one inference at a time"),
        ("Intervals", "Candidates are timed in turn, round after round, so that a change of the machine meets all of "
         "them alike. Speed is the ratio of medians, its interval from drawing blocks of rounds again and again "
         "(bootstrap); what reaches to within 2 % of 1 counts as a tie. Quality is compared sample by sample with your "
         "model's answers. Both intervals hold the true value with 95 % confidence."),
        ("Evaluation data", _data(report.evaluation)),
        ("Calibration data", _data(report.calibration)),
        ("Preprocessing", " → ".join(map(_preprocess, report.preprocess)) or "none: samples go in as they are"),
        ("Model", report.model_digest),
        ("Limits", _limits(report)),
        ("Seed", str(report.seed)),
        ("Took", words.milliseconds(report.took_s * 1000)),
    )  # fmt: skip
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return (
        f'<section class="long"><h2>How it was measured</h2><dl class="facts">{listed}'
        f"</dl><h3>To repeat it</h3>{_commands(report)}</section>"
    )


def _commands(report: Report) -> str:
    """What to type: the search itself, and in its output folder the check of each of its figures."""
    told = [(report.command, "the whole search; it goes on from the trials that it kept")]
    if report.chosen is not None:
        told.append(("edgeward bench bundle", "in the output folder: latency and memory of the chosen model"))
        told.append(("edgeward verify bundle", "that the files are those that were measured"))
    return "".join(f'<pre><code>{escape(command)}</code></pre><p class="soft">{why}</p>' for command, why in told)


def _data(data: Dataset) -> str:
    classes = f", {data.class_count} classes" if data.class_count else ""
    return f"{data.name}: {data.sample_count} samples ({data.kind}){classes}, {data.samples}"


def _preprocess(step: msgspec.Struct) -> str:
    fields = dict(msgspec.to_builtins(step))
    name = str(fields.pop("type")).replace("_", "-")
    options = ", ".join(f"{key} {_values(value)}" for key, value in fields.items())
    return f"{name} ({options})"


def _values(value: Any) -> str:
    return " ".join(map(_plain, value)) if isinstance(value, list | tuple) else _plain(value)


def _limits(report: Report) -> str:
    budget = {name: value for name, value in msgspec.structs.asdict(report.budget).items() if value is not None}
    gate = f"{words.drop_word(report)} of {report.metric} at most {words.gate(report)}"
    return ", ".join([gate, *(words.limit(name, value) for name, value in budget.items())])
