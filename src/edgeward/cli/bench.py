"""edgeward bench: latency, throughput and memory of a model or bundle; or two of them compared."""

import os
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console

if TYPE_CHECKING:
    from edgeward.cli.subject import Subject
    from edgeward.measure.jobs import Contender
    from edgeward.records.candidate import Comparison, Measurement

FILE = click.Path(path_type=Path)
_FRESH_STARTS = 3
_WARMUP_ROUNDS = 10


@click.command()
@click.argument("subject", metavar="X", type=FILE)
@click.option("--compare", "other", type=FILE, metavar="Y", help="Time Y too, in turn with X.")
@click.option("--data", type=FILE, help="Feed these samples; else drawn ones of the model's shapes.")
@click.option("--preprocess", type=FILE, metavar="FILE", help="How raw samples become inputs, for a plain model.")
@click.option("--key", "keys", multiple=True, type=FILE, metavar="PUB", help="Trust this public key, and no other.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of an inference; else as the bundle says, or 1.")
@click.option("--seconds", type=click.FloatRange(0.1, 3600), default=3.0, show_default=True, help="Time for the runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    subject: Path,
    other: Path | None,
    data: Path | None,
    preprocess: Path | None,
    keys: tuple[Path, ...],
    threads: int | None,
    seconds: float,
    as_json: bool,
) -> None:
    """Latency, throughput and memory of a model or bundle X on this machine.

    Load and first inference are medians of three fresh processes. With --compare, X and Y run in turn and the
    ratio of their medians comes with its 95 % interval; a difference inside the noise is called a tie.

    \b
    edgeward bench out/bundle
    edgeward bench model.onnx --compare out/bundle
    """
    from edgeward.cli.subject import subject_at
    from edgeward.kit.clock import SystemClock
    from edgeward.measure import bench
    from edgeward.measure.conditions import conditions, throttled
    from edgeward.measure.measurement import measurement, setting_here

    subjects = [subject_at(path, keys, preprocess) for path in (subject, other) if path is not None]
    before = conditions()
    measured: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="edgeward-bench-") as folder:
        contenders = [_contender(s, data, threads, Path(folder) / str(i)) for i, s in enumerate(subjects)]
        alone = [[bench.measure_alone(contender) for _ in range(_FRESH_STARTS)] for contender in contenders]
        times = bench.race(contenders, seconds=seconds, seed=0, warmup_rounds=_WARMUP_ROUNDS)
    after = conditions()
    for one, contender, starts, mine in zip(subjects, contenders, alone, times, strict=True):
        setting = setting_here(
            one.runtime, threads=contender.threads, warmup_runs=_WARMUP_ROUNDS * 6, conditions_line=before.line()
        )
        measured.append(
            measurement(
                one.model, setting, mine,
                load_ms=statistics.median(start.load_ms for start in starts),
                first_ms=statistics.median(start.first_ms for start in starts),
                peak_memory_bytes=max(start.peak_memory_bytes for start in starts),
                taken_at=SystemClock().now(), after=after, throttled=throttled(before, after),
            )
        )  # fmt: skip
    comparison = bench.compare(times[0], times[1], seed=0) if len(times) == 2 else None
    if as_json:
        document = {"base": measured[0], "other": measured[1], "comparison": comparison} if comparison else measured[0]
        console.print_json(document)
        return
    _show([s.name for s in subjects], measured, comparison, drawn=data is None)


def _contender(subject: "Subject", data: Path | None, threads: int | None, place: Path) -> "Contender":
    """The model as a file, and a few input tensors for it."""
    from edgeward.cli.subject import drawn_samples
    from edgeward.measure.bench import save_feeds
    from edgeward.measure.dataset import open_dataset
    from edgeward.measure.jobs import Contender

    session = subject.session(1)
    if data is None:
        feeds = drawn_samples(session)
    else:
        loaded = open_dataset(data, subject.inputs, session.outputs)
        predictor = subject.predictor_for(loaded, 1)
        feeds = [predictor.tensors(loaded[index]) for index in range(min(8, len(loaded)))]
        feeds = [feed for feed in feeds if all(feed[name].shape == feeds[0][name].shape for name in feed)]
    place.mkdir()
    (place / "model").write_bytes(subject.model)
    count = min(threads or subject.threads, len(os.sched_getaffinity(0))) if threads is None else threads
    return Contender(str(place / "model"), subject.runtime, count, str(save_feeds(place / "feeds.npz", feeds)))


def _show(names: list[str], measured: "list[Measurement]", comparison: "Comparison | None", *, drawn: bool) -> None:
    rows = [
        *(
            (f"p{share}", *(console.milliseconds(value) for value in values))
            for share, values in _percentiles(measured)
        ),
        ("max", *(console.milliseconds(one.latency.max_ms) for one in measured)),
        ("spread (interquartile)", *(console.milliseconds(one.latency.iqr_ms) for one in measured)),
        ("per second", *(f"{one.throughput_per_s:.0f}" for one in measured)),
        ("load", *(console.milliseconds(one.load_ms) for one in measured)),
        ("first inference", *(console.milliseconds(one.first_ms) for one in measured)),
        ("peak memory of the process", *(console.size(one.peak_memory_bytes) for one in measured)),
    ]
    console.table("", ("", *names), rows, right=tuple(range(1, len(names) + 1)))
    first = measured[0]
    console.say(f"n {first.latency.runs} each, after {first.setting.warmup_runs} for warm-up")
    console.say(
        f"{first.setting.cpu}, {first.setting.thread_count} thread(s), {first.setting.runtime_version}; "
        f"{first.setting.conditions}"
    )
    if drawn:
        console.say("inputs drawn at random; --data DATA feeds real ones")
    if comparison is not None:
        low, high = comparison.ratio_ci
        told = {"faster": "is faster than", "slower": "is slower than", "tie": "cannot be told from"}[
            comparison.verdict
        ]
        console.say(f"{names[1]} {told} {names[0]}: {comparison.ratio:.3f}× (95 % {low:.3f} to {high:.3f})")


def _percentiles(measured: "list[Measurement]") -> list[tuple[int, list[float | None]]]:
    latencies = [one.latency for one in measured]
    return [
        (50, [latency.p50_ms for latency in latencies]),
        (90, [latency.p90_ms for latency in latencies]),
        (95, [latency.p95_ms for latency in latencies]),
        (99, [latency.p99_ms for latency in latencies]),
    ]
