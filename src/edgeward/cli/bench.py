"""edgeward bench: what a model costs on this machine, or which of two is faster."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.cli.subject import Subject
    from edgeward.measure.fail_if import Condition
    from edgeward.measure.measurement import Entry
    from edgeward.measure.place import Place

SEED = 20261120
_GENERATIONS = 3


@click.command()
@click.argument("subject", metavar="X", type=PATH)
@click.option("--compare", type=PATH, metavar="BASE", help="Another model or bundle, timed in turn with X.")
@click.option("--fail-if", metavar="RULE", help="Exit code 3 when X is so much worse than BASE: 'p99>+5%@95%'.")
@click.option("--data", type=PATH, metavar="D", help="Feed real samples; without it, seeded random numbers.")
@click.option("--preprocess", type=PATH, metavar="FILE", help="What a raw sample needs, in TOML; for a plain model.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Default: as the bundle says, or 1.")
@click.option("--seconds", type=click.FloatRange(0.1, 120), help="Of timing, per model. Default: 3; compared, 1.5.")
@click.option("--target", default="", metavar="HOST", help="Measure on user@host over ssh; default: this machine.")
@click.option("--key", "keys", multiple=True, type=PATH, metavar="PUB", help="Trust this public key and no other.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    subject: Path,
    compare: Path | None,
    fail_if: str | None,
    data: Path | None,
    preprocess: Path | None,
    threads: int | None,
    seconds: float | None,
    target: str,
    keys: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Latency, throughput and memory of a model file or verified bundle, one sample at a time.

    Measures the model alone, in processes of its own: the steps around it are not in the numbers. Load, first run
    and memory are medians of fresh processes. With --compare both take turns in several generations of fresh
    processes, and each ratio has its 95 % interval over the generations.

    \b
    edgeward bench model.onnx
    edgeward bench model.onnx --compare out/bundle --data evaluation/
    edgeward bench new.onnx --compare old.onnx --fail-if "p99>+5%@95%,memory>+10%"
    edgeward bench out/bundle --target pi@raspberrypi
    """
    from tempfile import TemporaryDirectory

    from edgeward.cli.subject import open_subject, steps_for, threads_at
    from edgeward.cli.targets import measuring_place
    from edgeward.measure.place import HERE

    rules = _rules(fail_if, compare)
    paths = [subject] if compare is None else [subject, compare]
    opened = [
        open_subject(path, keys, threads=threads, preprocess=steps_for(path, paths, preprocess)) for path in paths
    ]
    with TemporaryDirectory(prefix="edgeward-bench-") as folder, measuring_place(target, console.note) as place:
        if place is not HERE:
            console.note(f"measuring on {target}")
        there = [threads_at(one, threads, place.facts.cpu_count) for one in opened]
        entries = [_entry(one, data, Path(folder) / str(number)) for number, one in enumerate(there)]
        if place.timing == "meaningless":
            console.note(f"{target} is emulated: its times mean nothing")
        if data is None:
            console.note(f"inputs are random numbers (seed {SEED}); --data D feeds real ones")
        if compare is None:
            _bench(paths, entries, seconds or 3.0, place, as_json)
        else:
            _compare(paths, entries, seconds or 1.5, rules, place, as_json)


def _rules(fail_if: str | None, compare: Path | None) -> "tuple[Condition, ...]":
    from edgeward.kit.errors import WrongInput
    from edgeward.measure.fail_if import conditions_of

    if fail_if is None:
        return ()
    if compare is None:
        raise WrongInput("--fail-if needs something to compare with", hint="add --compare BASE")
    return conditions_of(fail_if)


def _bench(paths: list[Path], entries: "list[Entry]", seconds: float, place: "Place", as_json: bool) -> None:
    from edgeward.cli import bench_words
    from edgeward.kit.clock import SystemClock
    from edgeward.measure.measurement import Effort, measure

    with console.bar(quiet=as_json) as progress:
        effort = Effort(_GENERATIONS, seconds, SEED)
        found = measure(
            entries, effort, clock=SystemClock(), place=place, tell=lambda done: progress.stage("timing", done)
        )
    if as_json:
        console.print_json(found.measurements[0])
    else:
        bench_words.show(paths, found.measurements)


def _compare(
    paths: list[Path],
    entries: "list[Entry]",
    seconds: float,
    rules: "tuple[Condition, ...]",
    place: "Place",
    as_json: bool,
) -> None:
    from edgeward.cli import bench_words
    from edgeward.kit.clock import SystemClock
    from edgeward.measure.changes import compared, generations_for
    from edgeward.measure.measurement import Effort, measure

    with console.bar(quiet=as_json) as progress:
        effort = Effort(generations_for(rules), seconds, SEED)
        found = measure(
            entries, effort, clock=SystemClock(), place=place, tell=lambda done: progress.stage("timing", done)
        )
    outcome = compared(found.generations, rules)
    if as_json:
        base, other = found.measurements
        console.print_json({
            "base": base, "other": other, "comparison": outcome.comparison,
            "changes": outcome.changes, "checks": outcome.checks,
        })  # fmt: skip
    else:
        bench_words.show(paths, found.measurements)
        bench_words.show_comparison(paths, outcome)
    bench_words.end_with(outcome)


def _entry(subject: "Subject", data: Path | None, place: Path) -> "Entry":
    """The model as a file of its own, and what it is fed with."""
    from edgeward.cli.feeds import feeds_of
    from edgeward.kit import codec
    from edgeward.measure.bench import save_feeds
    from edgeward.measure.jobs import Contender
    from edgeward.measure.measurement import Entry

    feeds = feeds_of(subject, data, verb="bench", seed=SEED)
    model = place.with_suffix(".model")
    model.write_bytes(subject.model_bytes)
    fed = save_feeds(place.with_suffix(".npz"), feeds)
    contender = Contender(str(model), subject.runtime, subject.threads, str(fed))
    return Entry(codec.digest_of(subject.model_bytes), contender)
