"""What `edgeward bench` tells a person, and how it ends."""

from pathlib import Path

from edgeward.cli import console
from edgeward.kit.errors import GateMissed
from edgeward.measure.benching import words
from edgeward.measure.benching.page import Told
from edgeward.measure.changes import Outcome
from edgeward.records.candidate import BenchMeasurement


def show(told: Told, output: Path | None) -> None:
    """The table, the conditions, and what was asked besides."""
    names = [_name(name) for name in told.names]
    right = tuple(range(1, len(names) + 1))
    rows = [(name, *values) for name, values in words.lines(told.found).items()]
    console.table("", ("one sample", *names), rows, right=right)
    for line in words.setting(told.found):
        console.say(line)
    _show_parts(told.found[0])
    if told.outcome is not None:
        _show_comparison(told, told.outcome)
    if output is not None:
        console.say(
            f"{output}/report.html says it all again; result.json, env.json, layers.csv and trace.json beside it"
        )


def _name(path: str) -> str:
    name = Path(path).name
    return name if len(name) <= 28 else f"…{name[-27:]}"


def _show_parts(found: BenchMeasurement) -> None:
    if found.scenario is not None:
        console.say()
        for line in words.of_scenario(found.scenario):
            console.paragraph(line)
    if found.sweep is not None:
        ms = words.milliseconds
        rows = [
            (words.of_point(one), ms(one.p50_ms), ms(one.p99_ms), one.error or f"{one.throughput_per_s:.4g}")
            for one in found.sweep.points
        ]
        console.say()
        console.table("", ("threads × streams", "p50", "p99", "a second"), rows, right=(1, 2, 3))
        for line in words.of_sweep(found.sweep):
            console.paragraph(line)
    if found.steady is not None:
        console.say()
        for line in words.of_steady(found.steady):
            console.paragraph(line)


def _show_comparison(told: Told, outcome: Outcome) -> None:
    """X against the base: each metric with its interval, the verdict, and what was asked."""
    rows = [
        (one.metric, f"{one.ratio:.3f}", f"{one.ratio_ci[0]:.3f}–{one.ratio_ci[1]:.3f}", one.verdict)
        for one in outcome.changes
    ]
    console.say()
    console.table("", (f"over {_name(told.names[1])}", "ratio", "95 % interval", ""), rows, right=(1, 2))
    console.paragraph(words.verdict(told.names[0], told.names[1], outcome))
    for check in outcome.checks:
        console.paragraph(words.of_check(check))


def end_with(outcome: Outcome | None) -> None:
    """Raises GateMissed when a condition of --fail-if holds."""
    failed = [check for check in outcome.checks if check.failed] if outcome is not None else []
    if failed:
        raise GateMissed("; ".join(words.of_check(check) for check in failed))
