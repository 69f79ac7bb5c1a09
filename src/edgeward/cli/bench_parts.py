"""The work of `edgeward bench`: what is measured of which models, in which order, and what is kept of it."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

from msgspec.structs import replace

from edgeward import __version__
from edgeward.cli import console
from edgeward.cli.feeds import feeds_of
from edgeward.cli.profile_words import command_line
from edgeward.cli.subject import Subject, open_subject, steps_for, threads_at
from edgeward.cli.targets import measuring_place
from edgeward.kit import codec
from edgeward.kit.clock import SystemClock
from edgeward.kit.errors import Failed, Unsupported
from edgeward.measure import conditions, energy_at
from edgeward.measure.bench import save_feeds
from edgeward.measure.benching import folder as result_folder
from edgeward.measure.benching.page import Told
from edgeward.measure.changes import compared, generations_for
from edgeward.measure.fail_if import Condition, conditions_of
from edgeward.measure.jobs import Contender
from edgeward.measure.measurement import Effort, Entry, measure
from edgeward.measure.place import HERE, Place
from edgeward.measure.scenario_run import Asked, run_scenario
from edgeward.measure.scenarios import RULES, Name
from edgeward.measure.steady import run_steady
from edgeward.measure.sweep import run_sweep
from edgeward.records.candidate import BenchMeasurement

_GENERATIONS = 3
_SECONDS, _COMPARED_SECONDS, _QUICK_SECONDS, _SWEEP_SECONDS, _PROFILE_SECONDS = 3.0, 1.5, 5.0, 1.0, 1.5


class Parts(NamedTuple):
    """What was asked besides the plain numbers."""

    scenario: str | None
    bound_ms: float
    quick: bool
    sweep: bool
    steady: bool
    most_steady_s: float
    seconds: float | None
    seed: int
    energy: bool = False


class Where(NamedTuple):
    """What the models are fed with, and where they run."""

    data: Path | None
    preprocess: Path | None
    threads: int | None
    target: str
    keys: tuple[Path, ...]


def rules_of(fail_if: str | None) -> tuple[Condition, ...]:
    """Raises WrongInput where they are not understood, Unsupported where no meter is read."""
    rules = conditions_of(fail_if) if fail_if is not None else ()
    if any(rule.metric == "energy" for rule in rules):
        raise Unsupported("--fail-if: the energy of a comparison is not measured", hint="leave energy out")
    return rules


def measured(
    paths: Sequence[Path], where: Where, parts: Parts, rules: Sequence[Condition], output: Path | None, *, quiet: bool
) -> Told:
    """All that was asked, written into `output` too. Nothing is written where something fails."""
    paths, earlier = _models(paths)
    opened = [
        open_subject(path, where.keys, threads=where.threads, preprocess=steps_for(path, paths, where.preprocess))
        for path in paths
    ]
    with (
        TemporaryDirectory(prefix="edgeward-bench-") as folder,
        measuring_place(where.target, console.note) as place,
        console.bar(quiet=quiet) as bar,
    ):
        if parts.energy:
            energy_at.check_meter(place)
        subjects = [threads_at(one, where.threads, place.facts.cpu_count) for one in opened]
        entries = [_entry(one, where.data, parts.seed, Path(folder) / str(at)) for at, one in enumerate(subjects)]
        _notes(where, place, subjects[0], parts.seed)
        if earlier is not None:
            result_folder.check_same(earlier, entries[1].model)
        try:
            told = _timed(paths, entries, where, parts, rules, place, bar)
            told = told._replace(found=(_more(told.found[0], entries[0].contender, parts, bar.stage), *told.found[1:]))
        except Failed as error:
            names = " or ".join(map(str, paths))
            raise Failed(f"{names}: the process that measured it failed: {error.message}", hint=error.hint) from error
        if output is not None:
            _write(output, told, subjects[0], where, parts, place, bar)
    return told


def _models(paths: Sequence[Path]) -> tuple[list[Path], Path | None]:
    """An earlier result as base stands for its model."""
    earlier = next((path for path in paths[1:] if result_folder.is_result(path)), None)
    return [path if path is not earlier else result_folder.model_of(path) for path in paths], earlier


def _notes(where: Where, place: Place, subject: Subject, seed: int) -> None:
    if place is not HERE:
        console.note(f"measuring on {where.target}")
    if place.timing == "meaningless":
        console.note(f"{where.target} is emulated: its times mean nothing")
    if subject.threads > place.facts.cpu_count:
        console.note(f"{subject.threads} threads on {place.facts.cpu_count} CPUs: they wait for each other")
    if where.data is None:
        console.note(f"{_inputs(where, seed)}; --data D feeds real ones")


def _inputs(where: Where, seed: int) -> str:
    return f"inputs are random numbers (seed {seed})" if where.data is None else f"samples of {where.data}"


def _timed(
    paths: Sequence[Path], entries: Sequence[Entry], where: Where, parts: Parts, rules: Sequence[Condition],
    place: Place, bar: console.Progress,
) -> Told:  # fmt: skip
    is_compared = len(entries) > 1
    count = generations_for(rules) if is_compared else _GENERATIONS
    seconds = parts.seconds or (_COMPARED_SECONDS if is_compared else _SECONDS)
    found = measure(
        entries, Effort(count, seconds, parts.seed), clock=SystemClock(), place=place,
        tell=lambda done: bar.stage("timing", done),
    )  # fmt: skip
    outcome = compared(found.generations, rules) if is_compared else None
    names = tuple(str(path) for path in paths)
    return Told(names, found.measurements, outcome, _inputs(where, parts.seed), command_line(), __version__)


def _more(
    found: BenchMeasurement, contender: Contender, parts: Parts, stage: Callable[[str, float], None]
) -> BenchMeasurement:  # fmt: skip
    """The measurement with scenario, sweep and long run, where they were asked for."""
    if parts.scenario is not None:
        name = cast(Name, parts.scenario)
        seconds = (parts.seconds or _QUICK_SECONDS) if parts.quick else RULES[name].least_s + 1
        result = run_scenario(contender, Asked(name, seconds, parts.bound_ms, parts.seed), tell=stage)
        found = replace(found, scenario=result)
    if parts.energy:
        stage("reading the energy meter", 0.9)
        found = energy_at.with_energy(found, energy_at.energy_of(contender, HERE))
    if parts.sweep:
        cpus = len(os.sched_getaffinity(0))
        seconds = parts.seconds or _SWEEP_SECONDS
        found = replace(found, sweep=run_sweep(contender, cpus=cpus, seconds=seconds, seed=parts.seed, tell=stage))
    if parts.steady:
        steady = run_steady(
            contender, most_s=parts.most_steady_s, seed=parts.seed, temperature=conditions.temperature_c, tell=stage
        )
        found = replace(found, steady=steady)
    return found


def _write(
    output: Path, told: Told, subject: Subject, where: Where, parts: Parts, place: Place, bar: console.Progress
) -> None:
    setting = told.found[0].setting
    environment = result_folder.Environment(
        model=str(subject.path.resolve()), digest=told.found[0].model, runtime=subject.runtime,
        runtime_version=setting.runtime_version, threads=subject.threads, seed=parts.seed, command=told.command,
        edgeward_version=__version__, machine=place.facts, conditions=setting.conditions, inputs=told.inputs,
    )  # fmt: skip
    result_folder.write(output, told, document(told), environment)
    if place is not HERE:
        console.note("layers.csv and trace.json are of this machine alone: not written")
        return
    bar.stage("layers", 0.9)
    reason = result_folder.write_layers(output, lambda: _profile(subject, where, parts))
    if reason:
        console.note(f"no layers.csv and trace.json: {reason}")


def _profile(subject: Subject, where: Where, parts: Parts) -> Any:
    from edgeward.measure.profiling.profile import Given, profile

    feeds = [
        {name: value[None] for name, value in feed.items()}
        for feed in feeds_of(subject, where.data, verb="bench", seed=parts.seed)
    ]
    given = Given(subject.path.name, subject.model_bytes, subject.runtime, subject.threads, feeds)
    return profile(given, seconds=_PROFILE_SECONDS, clock=SystemClock())


def document(told: Told) -> Any:
    """What --json prints and result.json holds: the BenchMeasurement of one model, or two with their comparison."""
    if told.outcome is None:
        return told.found[0]
    base, other = told.found
    return {
        "base": base, "other": other, "comparison": told.outcome.comparison, "changes": told.outcome.changes,
        "checks": told.outcome.checks,
    }  # fmt: skip


def _entry(subject: Subject, data: Path | None, seed: int, place: Path) -> Entry:
    """The model as a file of its own, and what it is fed with."""
    feeds = feeds_of(subject, data, verb="bench", seed=seed)
    model = place.with_suffix(".model")
    model.write_bytes(subject.model_bytes)
    fed = save_feeds(place.with_suffix(".npz"), feeds)
    contender = Contender(str(model), subject.runtime, subject.threads, str(fed))
    return Entry(codec.digest_of(subject.model_bytes), contender)
