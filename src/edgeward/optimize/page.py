"""Report → the page and the sentences that a person reads."""

from collections.abc import Iterable
from html import escape
from pathlib import Path

from edgeward.kit import codec
from edgeward.measure.quality import METRICS
from edgeward.optimize import charts
from edgeward.optimize.propose import AS_GIVEN
from edgeward.records.candidate import Report, Trial


def to_html(report: Report) -> str:
    """One file that needs nothing else: no script, no other host. Everything from outside is escaped."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    shown = [trial for trial in report.trials if trial.latency_ms and trial.quality]
    sections = [
        f"<h1>edgeward optimize · {escape(report.model)} · {escape(report.target)}</h1>",
        f'<p class="verdict">{escape(verdict(report))}</p>',
        f'<p class="lead">{escape(report.reason)}.</p>',
        _tiles(report),
        *(_pictures(report) if shown else ()),
        _section("Every candidate", "Times of interleaved runs; a failed candidate says why.", _table(report)),
        _section("How it was measured", "", _setting(report)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.model)} on {escape(report.target)} · edgeward</title>\n<style>\n{style}</style>\n"
        f"</head>\n<body>\n<main>\n{''.join(sections)}\n</main>\n</body>\n</html>\n"
    )


def summary_lines(report: Report) -> tuple[str, ...]:
    """The verdict, and what else a reader must know."""
    return (verdict(report), *report.notes)


def verdict(report: Report) -> str:
    """The outcome in one sentence."""
    chosen, base = report.chosen, report.baseline
    if chosen is None:
        return f"Nothing was chosen: {report.reason}."
    if chosen.recipe == AS_GIVEN:
        return f"Leave {report.model} as it is: nothing that keeps the gate is faster on this machine."
    speed = f"{chosen.recipe} is {chosen.speedup_p50 or 0:.2f}× as fast as the model as given here"
    if chosen.speedup_ci is not None:
        speed += f" (95 % interval {chosen.speedup_ci[0]:.2f}–{chosen.speedup_ci[1]:.2f})"
    size = f"{(chosen.size_bytes or 0) / (base.size_bytes or 1):.0%} of its size"
    return f"{speed}, at {size}; {_quality_words(report, chosen)}."


def _quality_words(report: Report, chosen: Trial) -> str:
    name, base = report.metric, report.baseline
    words = f"{name} {chosen.quality[name]:.4g} against {base.quality[name]:.4g}"
    if chosen.quality_drop is None or chosen.quality_drop_ci is None:
        return words
    low, high = chosen.quality_drop_ci
    kind = "drop" if METRICS[name].higher_is_better else "relative rise"
    return (
        f"{words} ({kind} {chosen.quality_drop:.4f}, 95 % interval {low:.4f} to {high:.4f}, gate {report.max_drop:g})"
    )


def _tiles(report: Report) -> str:
    chosen, base = report.chosen, report.baseline
    if chosen is None or chosen.latency_ms is None or base.latency_ms is None:
        return ""
    name = report.metric
    tiles = (
        (f"{chosen.speedup_p50 or 1:.2f}×", f"speed: p50 {base.latency_ms.p50:.3f} → {chosen.latency_ms.p50:.3f} ms"),
        (f"{chosen.quality[name]:.4g}", f"{name}: {base.quality[name]:.4g} → {chosen.quality[name]:.4g}"),
        (
            f"{(chosen.size_bytes or 0) / (base.size_bytes or 1):.0%}",
            f"size: {_bytes(base.size_bytes)} → {_bytes(chosen.size_bytes)}",
        ),
        (
            _bytes(chosen.peak_memory_bytes),
            f"peak memory of the process, {_bytes(base.peak_memory_bytes)} as given",
        ),
    )
    cells = "".join(f'<div class="tile"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in tiles)
    return f'<div class="tiles">{cells}</div>'


def _pictures(report: Report) -> Iterable[str]:
    yield _section(
        "Speed against quality",
        "Up and left is better. A dot's area is the size of the file; the line joins what nothing else beats.",
        charts.pareto(report),
    )
    yield _section(
        "How long an inference takes",
        "The share of runs that took no longer than a time: the steeper, the steadier.",
        charts.latency(report),
    )
    yield _section("What it costs in quality", "Against the model as given, on the same samples.", charts.drops(report))


def _table(report: Report) -> str:
    heads = (
        "recipe",
        "precision",
        report.metric,
        "drop",
        "p50",
        "p95",
        "p99",
        "speed",
        "size",
        "load",
        "first",
        "memory",
        "",
    )
    rows = "".join(_row(report, trial) for trial in report.trials)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _row(report: Report, trial: Trial) -> str:
    latency = trial.latency_ms
    is_chosen = report.chosen is not None and trial.recipe == report.chosen.recipe
    cells = (
        (trial.recipe, ""),
        (trial.precision or "–", ""),
        (_number(trial.quality.get(report.metric), ".4g"), ""),
        (_number(trial.quality_drop, "+.4f"), _interval(trial.quality_drop_ci, ".4f")),
        *((_number(value, ".3f", " ms"), "") for value in _percentiles(latency)),
        (_number(trial.speedup_p50, ".2f", "×"), _interval(trial.speedup_ci, ".2f")),
        (_bytes(trial.size_bytes), ""),
        (_number(trial.load_ms, ".1f", " ms"), ""),
        (_number(trial.first_ms, ".2f", " ms"), ""),
        (_bytes(trial.peak_memory_bytes), ""),
        (_standing(trial, is_chosen=is_chosen), "; ".join(trial.notes)),
    )
    inner = "".join(
        f"<td>{escape(big)}{f'<small>{escape(small)}</small>' if small else ''}</td>" for big, small in cells
    )
    return f'<tr class="chosen">{inner}</tr>' if is_chosen else f"<tr>{inner}</tr>"


def _percentiles(latency: object) -> tuple[float | None, float | None, float | None]:
    return tuple(getattr(latency, name, None) for name in ("p50", "p95", "p99"))  # type: ignore[return-value]


def _standing(trial: Trial, *, is_chosen: bool) -> str:
    if trial.failure is not None:
        return f"failed: {trial.failure}"
    if trial.violations:
        return "missed " + ", ".join(f"{v.limit} ({v.measured:.4g} over {v.allowed:.4g})" for v in trial.violations)
    return "chosen" if is_chosen else "kept the limits"


def _setting(report: Report) -> str:
    setting, data, calibration = report.setting, report.evaluation, report.calibration
    runs = report.baseline.latency_ms.runs if report.baseline.latency_ms else 0
    facts = (
        ("machine", f"{setting.cpu}, {setting.thread_count} thread(s) per inference"),
        ("conditions", setting.conditions),
        ("runtime", f"{setting.runtime_version}, kernel {setting.kernel}"),
        (
            "runs",
            f"{runs} of each candidate, in turn, in a new order each round, after {setting.warmup_runs} for warm-up",
        ),
        ("evaluation", f"{data.name}: {data.sample_count} samples, {data.samples}"),
        ("calibration", f"{calibration.name}: {calibration.sample_count} samples, {calibration.samples}"),
        ("preprocessing", codec.to_json(report.preprocess).decode() if report.preprocess else "none"),
        ("intervals", "95 %: quality from paired samples, speed from rounds drawn again in blocks"),
        ("taken", f"{report.taken_at:%Y-%m-%d %H:%M} UTC, in {report.took_s:.0f} s, seed {report.seed}"),
        ("edgeward", report.edgeward_version),
    )
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    told = f'<ul class="notes">{notes}</ul>' if notes else ""
    return f"<dl>{listed}</dl>{told}<p>To repeat it:</p><pre><code>{escape(report.command)}</code></pre>"


def _section(title: str, lead: str, body: str) -> str:
    told = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f"<section><h2>{escape(title)}</h2>{told}{body}</section>"


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{unit}"


def _interval(interval: tuple[float, float] | None, form: str) -> str:
    return "" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"


def _bytes(value: int | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1e6:.1f} MB" if value >= 1e6 else f"{value / 1e3:.0f} kB"
