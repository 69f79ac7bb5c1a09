"""Report → words and figures: what the terminal and the page both say. Rules only."""

import math
from collections.abc import Sequence
from typing import Literal

from edgeward.kit.errors import WrongInput
from edgeward.measure.bench import verdict_of
from edgeward.measure.drawing import signed
from edgeward.measure.quality import metric_named
from edgeward.records.candidate import Report, Trial, Violation

State = Literal["chosen", "kept", "missed", "failed"]
NOTHING = "–"

_LIMITS = {
    "latency_p50_ms": "p50",
    "latency_p95_ms": "p95",
    "latency_p99_ms": "p99",
    "cold_start_ms": "cold start",
    "bundle_bytes": "size",
    "peak_memory_bytes": "peak memory",
    "energy_mj": "energy",
}


def summary_lines(report: Report) -> tuple[str, ...]:
    """The verdict in one sentence, then the notes of the run."""
    return (verdict(report), *update(report), *energy_meter(report), *report.notes)


def update(report: Report) -> tuple[str, ...]:
    """What replacing the deployed version takes, and what keeping its scales cost and saved."""
    told = report.update
    if told is None or told.delta_bytes is None or report.chosen is None:
        return ()
    said = f"replacing {told.name} {told.version} takes an update of {size(told.delta_bytes)}"
    if told.unbound is None or told.unbound == report.chosen.recipe or not told.unbound_delta_bytes:
        return (said,)
    less = f"{share(told.delta_bytes, told.unbound_delta_bytes)} of that of {told.unbound}, the choice without --parent"
    cost = told.quality_cost or 0.0
    how = "larger" if cost > 0 else "smaller"
    price = (
        f"{drop_word(report)} {drop(report, abs(cost), extra_digits=1)} {how}" if cost else "no accuracy lost by that"
    )
    return (f"{said}, {less} ({size(told.unbound_delta_bytes)}); {price}",)


def verdict(report: Report) -> str:
    """One sentence for somebody who has never read such a report."""
    chosen = report.chosen
    if chosen is None:
        return _nothing_kept(report)
    if chosen.recipe == report.baseline.recipe:
        return f"{report.reason[:1].upper()}{report.reason[1:]}."
    return f"{chosen.recipe} is {_faster(report, chosen)}{_smaller(report, chosen)}{_answers(report, chosen)}."


def _nothing_kept(report: Report) -> str:
    nearest = next((trial for trial in report.trials if trial.recipe == report.nearest), None)
    if nearest is None:
        return f"Nothing kept the limits: {report.reason}."
    told = ", ".join(violation(report, missed) for missed in nearest.violations)
    return f"Nothing kept the limits; nearest: {nearest.recipe}, {told or 'not measured'}."


def _faster(report: Report, trial: Trial) -> str:
    if report.timing == "meaningless":
        return "the one to take (times under emulation mean nothing)"
    where = "here" if report.timing == "measured" else f"on {report.setting.device_id}, a forecast for {report.target}"
    if trial.speedup_p50 is None:
        return f"the one to take {where}"
    interval = f" (95 % interval {ratio_interval(trial)})" if trial.speedup_ci else ""
    if trial.speedup_ci and verdict_of(*trial.speedup_ci) == "tie":
        return f"as fast as your model {where}, within the noise: {trial.speedup_p50:.2f}×{interval}"
    return f"{trial.speedup_p50:.2f}× as fast as your model {where}{interval}"


def _smaller(report: Report, trial: Trial) -> str:
    if not trial.size_bytes or not report.baseline.size_bytes:
        return ""
    whose = "your model's" if report.timing == "meaningless" else "its"
    return f", {share(trial.size_bytes, report.baseline.size_bytes)} of {whose} size"


def _answers(report: Report, trial: Trial) -> str:
    mine, given = quality(report, trial), quality(report, report.baseline)
    if mine is None or given is None or trial.quality_drop is None:
        return ""
    interval = f", 95 % interval {drop_interval(report, trial)}" if trial.quality_drop_ci else ""
    change = f"{drop_word(report)} {drop(report, trial.quality_drop)}{interval}, gate {gate(report)}"
    scores = f"{report.metric} {score(report, mine)} against {score(report, given)}"
    return f", and answers {_how_well(report, trial)}: {scores} ({change})"


def _how_well(report: Report, trial: Trial) -> str:
    """No more than the interval allows: one that reaches over the gate has not proved "as well"."""
    low, high = trial.quality_drop_ci or (0.0, 0.0)
    if high < 0:
        return "better"
    if low > 0:
        return "almost as well"
    samples = report.evaluation.sample_count
    return f"as well as {samples} samples can tell" if high > max(report.max_drop, 0.0) else "as well"


def timed(report: Report, figure: str) -> str:
    """The name of a figure that hangs on the machine, with what it is worth where that was not the target itself."""
    word = {"measured": "", "forecast": "forecast", "meaningless": "emulated"}[report.timing]
    return f"{figure} ({word})" if word else figure


def is_error(report: Report) -> bool:
    """Whether lower scores are better, so that a drop is a relative rise."""
    try:
        return not metric_named(report.metric).higher_is_better
    except WrongInput:  # a report of a newer Edgeward
        return False


def drop_word(report: Report) -> str:
    """What a loss of quality is called: a drop of a score, a relative rise of an error."""
    return "relative rise" if is_error(report) else "drop"


def quality(report: Report, trial: Trial) -> float | None:
    """The trial's score, None where there is none that can be drawn."""
    value = trial.quality.get(report.metric)
    return value if value is not None and math.isfinite(value) else None


def after_drop(report: Report, value: float) -> float | None:
    """The score that a loss of `value` leaves of the baseline's."""
    given = quality(report, report.baseline)
    if given is None:
        return None
    return given * (1 + value) if is_error(report) else given - value


def state(report: Report, trial: Trial) -> State:
    """What became of a trial."""
    if trial.failure is not None:
        return "failed"
    if report.chosen is not None and trial.recipe == report.chosen.recipe:
        return "chosen"
    return "missed" if trial.violations else "kept"


def outcome(report: Report, trial: Trial) -> str:
    """What became of a trial, with the reason."""
    if trial.failure is not None:
        by_choice = trial.failure.startswith(("stopped early", "left out"))
        return trial.failure if by_choice else f"failed: {trial.failure}"
    if trial.violations:
        return "missed: " + ", ".join(violation(report, missed) for missed in trial.violations)
    return "chosen" if state(report, trial) == "chosen" else "kept the limits"


def in_order(report: Report) -> tuple[Trial, ...]:
    """The trials as they are listed: chosen, kept, missed, failed; the fastest first."""
    trials = report.trials
    if all(trial.recipe != report.baseline.recipe for trial in trials):
        trials = (report.baseline, *trials)
    rank = ("chosen", "kept", "missed", "failed").index
    return tuple(sorted(trials, key=lambda t: (rank(state(report, t)), t.latency_ms.p50 if t.latency_ms else math.inf)))


def name(report: Report, trial: Trial) -> str:
    """The recipe, or "your model" for the model as given."""
    return "your model" if trial.recipe == report.baseline.recipe else trial.recipe


def violation(report: Report, missed: Violation) -> str:
    """Such as "p95 9.1 ms over 8 ms"."""
    if missed.limit == "quality_drop":
        measured = drop(report, missed.measured, extra_digits=1)
        return f"{drop_word(report)} of {report.metric} {measured} over {gate(report)}"
    measured, allowed = _in_unit(missed.limit, missed.measured), _in_unit(missed.limit, missed.allowed)
    return f"{_LIMITS.get(missed.limit, missed.limit)} {measured} over {allowed}"


def limit(name: str, value: float | str) -> str:
    """One line of a budget, such as "p95 at most 8.00 ms"."""
    return f"{_LIMITS.get(name, name)} at most {_in_unit(name, value)}"


def _in_unit(name: str, value: float | str) -> str:
    if isinstance(value, str):
        return value
    if name.endswith("_bytes"):
        return size(value)
    if name.endswith("_mj"):
        return millijoules(value)
    return milliseconds(value) if name.endswith("_ms") else f"{value:.4g}"


def score(report: Report, value: float | None) -> str:
    """A score, with as many digits as the gate can tell apart."""
    if value is None:
        return NOTHING
    return _significant(value, 4) if is_error(report) else signed(value, _digits(report))


def drop(report: Report, value: float | None, *, extra_digits: int = 0) -> str:
    """A drop as a difference of scores; a relative rise in percent."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "without bound"
    if is_error(report):
        return f"{signed(value * 100, max(1, _digits(report) - 2) + extra_digits)} %"
    return signed(value, _digits(report) + extra_digits)


def gate(report: Report) -> str:
    """The most that may be lost."""
    return f"{report.max_drop * 100:g} %" if is_error(report) else f"{report.max_drop:g}"


def drop_interval(report: Report, trial: Trial) -> str:
    """Such as "−0.001…0.005"; empty without an interval."""
    return "…".join(drop(report, end) for end in trial.quality_drop_ci) if trial.quality_drop_ci else ""


def ratio_interval(trial: Trial) -> str:
    """Such as "1.75–1.83"; empty without an interval."""
    return f"{trial.speedup_ci[0]:.2f}–{trial.speedup_ci[1]:.2f}" if trial.speedup_ci else ""


def _digits(report: Report) -> int:
    if report.max_drop <= 0:
        return 4
    return min(6, max(3, math.ceil(-math.log10(report.max_drop)) + 1))


def _significant(value: float, digits: int) -> str:
    return f"{value:.{digits}g}".replace("-", "−")


def threads(report: Report) -> str:
    """On how many threads the model as given and the chosen one run."""
    given, chosen = report.baseline.thread_count or report.setting.thread_count, report.chosen
    told = [f"{_threads(given)} for the model as given"]
    if chosen is not None and chosen.thread_count is not None:
        told.append(f"{_threads(chosen.thread_count)} for {chosen.recipe}")
    return ", ".join(told)


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def milliseconds(value: float | None) -> str:
    """Three digits: "0.232 ms", "86 µs", "1 240 ms"."""
    if value is None:
        return NOTHING
    if value < 0.1:
        return f"{value * 1000:.3g} µs"
    if value >= 1000:
        return f"{value / 1000:.3g} s"
    return f"{_fixed(value)} ms"


def millijoules(value: float | None) -> str:
    """Three digits: "4.21 mJ", "86 µJ", "1.2 J"."""
    if value is None:
        return NOTHING
    unit, factor = ("µJ", 1e3) if value < 0.1 else ("J", 1e-3) if value >= 1000 else ("mJ", 1.0)
    return f"{value * factor:.3g} {unit}"


def energy(trial: Trial) -> tuple[str, str]:
    """Gross, and net where that is told."""
    if trial.energy is None:
        return NOTHING, ""
    net = trial.energy.net_mj
    return millijoules(trial.energy.gross_mj), "" if net is None else f"{millijoules(net)} net"


def energy_meter(report: Report) -> tuple[str, ...]:
    """What metered the candidates, in one sentence; nothing where nothing did."""
    told = report.baseline.energy
    if told is None:
        return ()
    parts = f"{told.scope} ({told.source}), {told.sampling_hz:.0f} samples a second, idle {told.idle_mw / 1000:.3g} W"
    return (f"energy is of the {parts}; gross, with the idle power in it",)


def tails(trial: Trial) -> str:
    """The 95th and 99th percentile, such as "0.149 · 0.163 ms"; empty where it was not timed."""
    if trial.latency_ms is None:
        return ""
    first, last = milliseconds(trial.latency_ms.p95), milliseconds(trial.latency_ms.p99)
    alike = first.split()[-1] == last.split()[-1]
    return f"{first.split()[0] if alike else first} · {last}"


def _fixed(value: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:.{min(digits, 3)}f}"


def size(value: float | None) -> str:
    """Such as "124 kB"."""
    if value is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def share(part: float, whole: float) -> str:
    """Such as "27 %"."""
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 1 else f"{percent:.2g} %"


def look(report: Report, trial: Trial) -> str:
    """The class that colours a trial: its state, or "given" for the model as given."""
    return "given" if trial.recipe == report.baseline.recipe else state(report, trial)


def worst_shown(report: Report, trials: Sequence[Trial]) -> float:
    """The largest loss that is shown in its place: one hopeless candidate must not flatten the others."""
    kept = [trial.quality_drop_ci[1] for trial in trials if trial.quality_drop_ci and not trial.violations]
    limit = max([6 * report.max_drop, *(2 * end for end in kept if math.isfinite(end))])
    drops = [t.quality_drop for t in trials if t.quality_drop is not None and math.isfinite(t.quality_drop)]
    return limit if limit > 0 else max([0.01, *drops])


def forecast_kept(report: Report) -> str:
    """One line: what int8 was forecast to gain, beside what was measured; empty where nothing was."""
    told = report.forecast.runtimes if report.forecast else ()
    parts = [
        f"{one.speedup:.1f}× in {one.runtime} (measured {one.measured_speedup:.1f}×)"
        for one in told
        if one.speedup is not None and one.measured_speedup is not None
    ]
    return f"forecast for int8: {', '.join(parts)}" if parts else ""


def standing(report: Report, trial: Trial) -> str:
    """One or two words for a narrow table, such as "missed accuracy"."""
    if trial.violations:
        names = ("accuracy" if v.limit == "quality_drop" else _LIMITS.get(v.limit, v.limit) for v in trial.violations)
        return f"missed {', '.join(names)}"
    return "chosen" if state(report, trial) == "chosen" else "kept"


def unmeasured(report: Report) -> dict[str, list[str]]:
    """The recipes that have no figures, by their reason; those that were stopped for the same one together."""
    found: dict[str, list[str]] = {}
    for trial in report.trials:
        if trial.failure is not None:
            found.setdefault(trial.failure, []).append(trial.recipe)
    return found
