"""Drives an optimisation: prepare, search, race, choose, write."""

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from msgspec.structs import asdict, replace
from numpy.typing import NDArray

from edgeward import __version__
from edgeward.kit import codec, files
from edgeward.kit.clock import Clock
from edgeward.kit.errors import GateMissed
from edgeward.measure import bench
from edgeward.measure.conditions import Conditions, throttled
from edgeward.measure.limits import violations_of
from edgeward.measure.measurement import distribution_of, setting_of
from edgeward.measure.place import HERE, Here, Place
from edgeward.measure.statistics import gate_support
from edgeward.optimize import deliver, energy_axis, explain, timing, trials
from edgeward.optimize.choose import CLOSE, PERHAPS, Choice, choose, close_to_fastest, is_no_slower, pareto
from edgeward.optimize.forecast import Outlook, lead_of, lines, look_ahead, saved_ms
from edgeward.optimize.memory import ForecastMemory
from edgeward.optimize.prepare import Order, Task, prepare
from edgeward.optimize.propose import AS_GIVEN, family
from edgeward.optimize.search import Progress, Search
from edgeward.optimize.trials import Candidate, Judge, Rig
from edgeward.optimize.update import with_deltas, with_update
from edgeward.records.candidate import Measurement, Recipe, Report, Setting, Trial

_RACE_S, _GENERATIONS = 3.5, 2
_LEAST_RACE_S = 2.0
_FORECAST_LIMIT_S = 20.0
"""A shorter time limit leaves no room for a forecast."""


def optimize(order: Order, clock: Clock, progress: Progress, place: Place = HERE) -> Report:
    """Finds the fastest candidate that keeps the gate and the budget at `place`, and writes it with its report.

    The output folder appears whole at the end or not at all. Raises GateMissed, after writing the report alone,
    when nothing kept the limits.
    """
    energy_axis.check(place, order.budget)
    timing.check_budget(place.timing, place.facts, order.budget)
    start_s = clock.monotonic_s()
    files.check_output_folder(order.output, overwrite=order.overwrite)
    progress.stage("reading the model and the data", 0.01)
    with ExitStack() as stack:
        stack.enter_context(bench.WORKERS).prepare()
        task = prepare(order)
        before = place.conditions()
        folder = stack.enter_context(files.new_folder(order.output, overwrite=order.overwrite))
        with tempfile.TemporaryDirectory(prefix=".trials-", dir=folder) as trials_folder:
            work = Path(trials_folder)
            rig = Rig(place, _threads(order, place), work, {})
            outlook = _outlook(order, task, rig, progress)
            saved_time = partial(saved_ms, outlook.told)
            search = Search(order, task, rig, clock, start_s, progress, saved_time, lead_of(outlook.told))
            candidates, failures, judge = search.run()
            progress.stage(f"timing {len(candidates)} candidates in turn", 0.75)
            times = _race(order, rig, candidates, clock.monotonic_s() - start_s)
            candidates = trials.with_race(candidates, times, seed=order.seed)
            candidates, times, unmetered = energy_axis.measured(candidates, times, place, order.budget)
            failures = [*failures, *unmetered]
            candidates = _judged(order, candidates)
            ties = _ties(order, rig, candidates, times, progress, clock.monotonic_s() - start_s)
            ran = [explain.seen(candidate) for candidate in candidates] if isinstance(place, Here) else []
        candidates = with_deltas(candidates, task.parent)
        measured = [candidate.trial for candidate in candidates]
        gate = f"{judge.metric.name} within {order.max_drop:g}"
        choice = choose([*measured, *failures], ties, gate=_gate(order, gate))
        choice = timing.untimed(place.timing, choice, sum(not trial.violations for trial in measured))
        setting = setting_of(candidates[0].contender, before, place)
        report = _report(order, task, place, judge, setting, measured, failures, choice, clock, start_s)
        report = with_update(report, task.parent, ties)
        progress.stage("timing the layers", 0.9)
        report = explain.explained(report, outlook, ran, search.noise())
        progress.stage("writing the bundle and the report", 0.95)
        if choice.chosen is None:
            deliver.write_report(folder, report)
        else:
            winner = next(c for c in candidates if c.trial.recipe == choice.chosen.recipe)
            measurement = _measurement(report, winner, times[candidates.index(winner)], (before, place.conditions()))
            deliver.write(folder, order, task, winner, report, measurement, place)
    if report.chosen is None:
        raise GateMissed(
            report.reason, hint=f"see {order.output}/report.html, or allow more with --max-drop or --budget"
        )
    return report


def _outlook(order: Order, task: Task, rig: Rig, progress: Progress) -> Outlook:
    """What int8 is forecast to gain, told before the long work."""
    progress.stage("timing the layers in float and int8", 0.03)
    in_time = order.time_limit_s is None or order.time_limit_s >= _FORECAST_LIMIT_S
    kept = ForecastMemory(order.memory, task, rig)
    outlook = look_ahead(task.model, rig.place, threads=rig.threads[0], in_time=in_time, known=kept.recall())
    kept.keep(outlook.told)
    for line in lines(outlook.told):
        progress.say(line)
    return outlook


def _threads(order: Order, place: Place) -> tuple[int, ...]:
    """What the user asked for; else one thread, and all of the place's."""
    if order.threads is not None:
        return (order.threads,)
    return (1,) if place.facts.cpu_count == 1 or place.timing == "meaningless" else (1, place.facts.cpu_count)


def _race(order: Order, rig: Rig, candidates: list[Candidate], spent_s: float) -> list[NDArray[np.float64]]:
    seconds = _RACE_S
    if order.time_limit_s is not None:
        seconds = max(1.0, min(seconds, order.time_limit_s - spent_s - 1))
    contenders = [candidate.contender for candidate in candidates]
    return rig.place.race(contenders, seconds=seconds, seed=order.seed, generations=_GENERATIONS)


def _judged(order: Order, candidates: list[Candidate]) -> list[Candidate]:
    return [
        candidate._replace(
            trial=replace(candidate.trial, violations=violations_of(candidate.trial, order.budget, order.max_drop))
        )
        for candidate in candidates
    ]


def _ties(
    order: Order, rig: Rig, candidates: list[Candidate], times: list[NDArray[np.float64]], progress: Progress,
    spent_s: float,
) -> dict[str, bool]:  # fmt: skip
    """Of each candidate, whether its latency cannot be told from that of the fastest that kept the limits, nor was
    longer than that of the model as given. Those that one race of all leaves so have one more among themselves: among
    few, more can be told."""
    if rig.place.timing == "meaningless":
        return dict.fromkeys((one.trial.recipe for one in candidates if not one.trial.violations), True)
    perhaps = close_to_fastest(_trials(candidates), times, least=PERHAPS, seed=order.seed)
    # One of each family: what the others cost differs by where they lie in memory and by chance.
    alone = {_family(candidates[index].trial): index for index in perhaps}.values()
    finalists, times = [candidates[index] for index in alone], [times[index] for index in alone]
    in_time = order.time_limit_s is None or order.time_limit_s - spent_s > _LEAST_RACE_S
    if len(finalists) > 1 and in_time:
        progress.stage(f"timing the {len(finalists)} fastest once more", 0.85)
        times = _race(order, rig, finalists, spent_s)
    tied = close_to_fastest(_trials(finalists), times, least=CLOSE, seed=order.seed)
    fastest = {_family(finalists[index].trial) for index in tied}
    alike = [trial for trial in _trials(candidates) if not trial.violations and _family(trial) in fastest]
    return dict.fromkeys((trial.recipe for trial in alike if is_no_slower(trial)), True)


def _family(trial: Trial) -> tuple[str, ...]:
    return family(Recipe(name=trial.recipe, steps=trial.steps, runtime=trial.runtime))


def _trials(candidates: list[Candidate]) -> list[Trial]:
    return [candidate.trial for candidate in candidates]


def _gate(order: Order, gate: str) -> str:
    limits = [name for name, value in asdict(order.budget).items() if value is not None]
    return f"{gate} and the budget ({', '.join(limits)})" if limits else gate


def _report(
    order: Order,
    task: Task,
    place: Place,
    judge: Judge,
    setting: Setting,
    measured: list[Trial],
    failures: list[Trial],
    choice: Choice,
    clock: Clock,
    start_s: float,
) -> Report:
    chosen = choice.chosen and replace(choice.chosen, file=deliver.file_of(choice.chosen))
    notes = (*_timing_notes(order, place), *task.notes, *_gate_note(order, len(task.evaluation), chosen))
    return Report(
        schema_version=1, edgeward_version=__version__, model=order.model.name,
        model_digest=codec.digest_of(task.model_bytes), metric=judge.metric.name, max_drop=order.max_drop,
        budget=order.budget, target=place.facts.name, setting=setting, evaluation=task.evaluation.record("evaluation"),
        calibration=task.calibration.record("calibration"), preprocess=task.preprocess, seed=order.seed,
        baseline=measured[0], chosen=chosen, nearest=choice.nearest, trials=(*measured, *failures),
        pareto=pareto(timing.comparable(place.timing, measured)), reason=choice.reason, notes=notes,
        timing=place.timing, command=order.command, taken_at=clock.now(),
        took_s=round(clock.monotonic_s() - start_s, 3),
    )  # fmt: skip


def _timing_notes(order: Order, place: Place) -> tuple[str, ...]:
    told = timing.notes(place.timing, place.facts, HERE.facts, order.budget, threads=order.threads)
    return told if isinstance(place, Here) else (*told, "layers were not timed: that is done on this machine only")


def _gate_note(order: Order, count: int, chosen: Trial | None) -> tuple[str, ...]:
    """Said where the evaluation set of `count` samples is too small to prove that the gate was kept."""
    if chosen is None or chosen.quality_drop is None or chosen.quality_drop_ci is None or chosen.recipe == AS_GIVEN:
        return ()
    support = gate_support(chosen.quality_drop, chosen.quality_drop_ci, count, max_drop=order.max_drop)
    return () if support.verdict == "kept" else (support.reason,)


def _measurement(
    report: Report, winner: Candidate, times: NDArray[np.float64], around: tuple[Conditions, Conditions]
) -> Measurement | None:
    """What the chosen model costs on the target, for the bundle; None where it was not measured there."""
    if report.timing != "measured":
        return None
    trial = winner.trial
    load_ms, first_ms = trial.load_ms or 0.0, trial.first_ms or 0.0
    return Measurement(
        model=codec.digest_of(winner.model_bytes), target=report.target,
        setting=replace(
            report.setting, thread_count=winner.contender.threads,
            runtime_version=f"{trial.runtime} {trial.runtime_version}",
        ),
        taken_at=report.taken_at.replace(microsecond=0), latency=distribution_of(times),
        cold_start_ms=load_ms + first_ms, throughput_per_s=1000 / float(times.mean()),
        peak_memory_bytes=trial.peak_memory_bytes or 0,
        energy_mj=trial.energy.gross_mj if trial.energy else None, quality=dict(trial.quality),
        temperature_c=around[1].temperature_c, throttled=throttled(*around), load_ms=load_ms, first_ms=first_ms,
    )  # fmt: skip
