"""What a benchmark says in sentences: the same ones on a terminal and on the page."""

from collections.abc import Sequence

from edgeward.kit.figures import milliseconds as milliseconds
from edgeward.kit.figures import size as size
from edgeward.measure.changes import Outcome
from edgeward.records.bench import Check, ScenarioResult, Steady, Sweep, SweepPoint
from edgeward.records.candidate import BenchMeasurement


def lines(found: Sequence[BenchMeasurement]) -> dict[str, list[str]]:
    """The table of one model, or of two side by side."""
    ms, latency = milliseconds, [one.latency for one in found]
    told = {
        "p50": [ms(one.p50_ms) for one in latency],
        "p90": [ms(one.p90_ms) for one in latency],
        "p95": [ms(one.p95_ms) for one in latency],
        "p99": [ms(one.p99_ms) for one in latency],
        "max": [ms(one.max_ms) for one in latency],
        "spread (IQR)": [ms(one.iqr_ms) for one in latency],
        "runs": [str(one.runs) for one in latency],
        "per second": [f"{one.throughput_per_s:.4g}" for one in found],
        "load": [ms(one.load_ms) for one in found],
    }
    if any(one.compile_ms is not None for one in found):
        told["  of it compiling"] = [ms(one.compile_ms) for one in found]
    told |= {
        "first run": [ms(one.first_ms) for one in found],
        "peak memory": [size(one.peak_memory_bytes) for one in found],
    }
    spent = [one.energy for one in found if one.energy]
    if len(spent) == len(found):
        told |= {
            "energy, gross": [f"{one.gross_mj:.3g} mJ" for one in spent],
            "energy, net": ["–" if one.net_mj is None else f"{one.net_mj:.3g} mJ" for one in spent],
            "power · idle": [f"{one.power_mw / 1000:.3g} · {one.idle_mw / 1000:.3g} W" for one in spent],
            "meter": [f"{one.source}, {one.scope}" for one in spent],
        }
    split = [one.memory for one in found if one.memory]
    if len(split) == len(found):
        told |= {
            f"  before loading ({split[0].counted_as})": [size(one.process_bytes) for one in split],
            "  model": [size(one.model_bytes) for one in split],
            "  arena": [size(one.arena_bytes) for one in split],
        }
    return told


def setting(found: Sequence[BenchMeasurement]) -> list[str]:
    """What the numbers hang on."""
    one = found[0].setting
    throttled = "; throttled while it was measured" if any(each.throttled for each in found) else ""
    return [f"{one.cpu}, {one.runtime_version}, threads {one.thread_count}", f"{one.conditions}{throttled}"]


def verdict(x: str, base: str, outcome: Outcome) -> str:
    """X against the base, by p50."""
    change = outcome.changes[0]
    low, high = change.ratio_ci
    told = f"its p50 takes {change.ratio:.3f} of the time (95 % interval {low:.3f}–{high:.3f})"
    over = f"{change.generations} generations of fresh processes, interleaved"
    if change.verdict == "unclear":
        return f"unclear whether {x} and {base} differ: {told}; a quieter machine may tell, or --seconds; {over}"
    if change.verdict == "no difference":
        return f"no difference between {x} and {base}: {told}; {over}"
    return f"{x} is {change.verdict} than {base}: {told}; {over}"


def of_check(check: Check) -> str:
    """What became of one condition."""
    sure, side = f"{check.confidence * 100:g} %", "at least" if check.limit >= 0 else "at most"
    outcome = "FAILED" if check.failed else "kept"
    return (
        f"{outcome}: {check.condition}: {check.change:+.1%} measured, {side} {check.bound:+.1%} with {sure} confidence"
    )


def of_scenario(found: ScenarioResult) -> list[str]:
    """The result, how sure it is, and what it is not."""
    told = [f"{found.name}, {found.metric}: {_metric(found)}"]
    if found.percentile is not None and found.estimate_ms is not None and found.name != "server":
        told.append(
            f"early-stopping estimate, which holds with 99 % confidence: {milliseconds(found.estimate_ms)} "
            f"({found.discarded} slower queries of {found.queries:,} left out)"
        )
    if found.percentile is not None and found.estimate_ms is None:
        told.append(f"{found.queries:,} queries are too few for MLPerf's early-stopping estimate")
    if found.samples_per_query > 1:
        batch = f"batches of {found.batch}" if found.batch > 1 else "one by one"
        told.append(f"samples of a query were run {batch}")
    unmet = f", and not by its rules: {'; '.join(found.unmet)}" if found.unmet else ""
    told.append(f"{found.method}{unmet}")
    return told


def _metric(found: ScenarioResult) -> str:
    if found.name == "offline":
        return f"{found.samples_per_s:.4g}"
    if found.name == "server":
        return (
            f"{found.rate_per_s or 0:.4g} a second under {milliseconds(found.latency_bound_ms)} "
            f"(p99 {milliseconds(found.percentile_ms)}, {found.queries:,} queries, open loop)"
        )
    return f"{milliseconds(found.percentile_ms)} ({found.queries:,} queries)"


def of_point(point: SweepPoint) -> str:
    """ "2 threads × 1 stream" """
    return f"{_many(point.threads, 'thread')} × {_many(point.streams, 'stream')}"


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def of_sweep(found: Sweep) -> list[str]:
    """The best settings by name."""
    if found.fastest is None or found.most is None:
        return ["no setting gave a number"]
    fastest, most = found.fastest, found.most
    return [
        f"soonest answer: {of_point(fastest)}, p50 {milliseconds(fastest.p50_ms)}",
        f"most answers: {of_point(most)}, {most.throughput_per_s or 0:.4g} a second",
    ]


def of_steady(found: Steady) -> list[str]:
    """Burst against steady, and what was watched."""
    ratio = found.steady_p50_ms / found.burst_p50_ms
    end = "steady" if found.is_steady else "not steady yet when the time was over,"
    return [
        f"burst p50 {milliseconds(found.burst_p50_ms)}, steady p50 {milliseconds(found.steady_p50_ms)} ({ratio:.2f}×); "
        f"{end} after {found.took_s:.0f} s",
        f"watched: {found.watched}",
    ]
