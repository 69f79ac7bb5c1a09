"""What `edgeward bench` tells a person, and how it ends."""

from collections.abc import Sequence
from pathlib import Path

from edgeward.cli import console
from edgeward.kit.errors import GateMissed
from edgeward.measure.changes import Outcome
from edgeward.records.bench import Change, Check
from edgeward.records.candidate import Measurement


def show(paths: Sequence[Path], found: Sequence[Measurement]) -> None:
    """The table of one model, or of two side by side, and the conditions."""
    right = tuple(range(1, len(found) + 1))
    rows = [(name, *values) for name, values in _lines(found).items()]
    console.table("", ("one sample", *(name_of(path) for path in paths)), rows, right=right)
    setting = found[0].setting
    throttled = "; throttled while it was measured" if any(one.throttled for one in found) else ""
    console.say(f"{setting.cpu}, {setting.runtime_version}, threads {setting.thread_count}")
    console.say(f"{setting.conditions}{throttled}")


def _lines(found: Sequence[Measurement]) -> dict[str, list[str]]:
    ms, size = console.milliseconds, console.size
    latency = [one.latency for one in found]
    lines = {
        "p50": [ms(one.p50_ms) for one in latency],
        "p90": [ms(one.p90_ms) for one in latency],
        "p95": [ms(one.p95_ms) for one in latency],
        "p99": [ms(one.p99_ms) for one in latency],
        "max": [ms(one.max_ms) for one in latency],
        "spread (IQR)": [ms(one.iqr_ms) for one in latency],
        "runs": [str(one.runs) for one in latency],
        "per second": [f"{one.throughput_per_s:.4g}" for one in found],
        "load": [ms(one.load_ms) for one in found],
        "first run": [ms(one.first_ms) for one in found],
        "peak memory": [size(one.peak_memory_bytes) for one in found],
    }
    split = [one.memory for one in found]
    if all(split):
        kind = split[0].counted_as if split[0] else ""
        lines |= {
            f"  before loading ({kind})": [size(one.process_bytes if one else None) for one in split],
            "  model": [size(one.model_bytes if one else None) for one in split],
            "  arena": [size(one.arena_bytes if one else None) for one in split],
        }
    return lines


def name_of(path: Path) -> str:
    return path.name if len(path.name) <= 28 else f"…{path.name[-27:]}"


def show_comparison(paths: Sequence[Path], outcome: Outcome) -> None:
    """X against the base: each metric with its interval, the verdict, and what was asked."""
    rows = [
        (one.metric, f"{one.ratio:.3f}", f"{one.ratio_ci[0]:.3f}–{one.ratio_ci[1]:.3f}", one.verdict)
        for one in outcome.changes
    ]
    console.say()
    console.table("", (f"× {name_of(paths[1])}", "ratio", "95 % interval", ""), rows, right=(1, 2))
    console.paragraph(_sentence(paths, outcome))
    for check in outcome.checks:
        console.paragraph(words_of_check(check))


def _sentence(paths: Sequence[Path], outcome: Outcome) -> str:
    change: Change = outcome.changes[0]
    low, high = change.ratio_ci
    told = f"its p50 takes {change.ratio:.3f} of the time (95 % interval {low:.3f}–{high:.3f})"
    over = f"{change.generations} generations of fresh processes, interleaved"
    if change.verdict == "no difference":
        return f"no difference between {paths[0]} and {paths[1]}: {told}; {over}"
    return f"{paths[0]} is {change.verdict} than {paths[1]}: {told}; {over}"


def words_of_check(check: Check) -> str:
    """What became of one condition, in a sentence."""
    sure, side = f"{check.confidence * 100:g} %", "at least" if check.limit >= 0 else "at most"
    outcome = "FAILED" if check.failed else "kept"
    return (
        f"{outcome}: {check.condition}: {check.change:+.1%} measured, {side} {check.bound:+.1%} with {sure} confidence"
    )


def end_with(outcome: Outcome) -> None:
    """Raises GateMissed when a condition of --fail-if holds."""
    failed = [check for check in outcome.checks if check.failed]
    if failed:
        raise GateMissed("; ".join(words_of_check(check) for check in failed))
