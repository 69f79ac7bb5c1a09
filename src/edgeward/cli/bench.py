"""edgeward bench: what a model costs on this machine, or which of two is faster."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.cli.subject import Subject
    from edgeward.measure.measurement import Entry
    from edgeward.records.candidate import Comparison, Measurement

_SEED = 20261120


@click.command()
@click.argument("subject", metavar="X", type=PATH)
@click.option("--compare", type=PATH, metavar="Y", help="Another model or bundle, timed in turn with X.")
@click.option("--data", type=PATH, metavar="D", help="Feed real samples; without it, seeded random numbers.")
@click.option("--preprocess", type=PATH, metavar="FILE", help="What a raw sample needs, in TOML; for a plain model.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Default: as the bundle says, or 1.")
@click.option("--seconds", type=click.FloatRange(0.1, 120), default=3.0, show_default=True, help="Per model.")
@click.option("--target", default="", metavar="HOST", help="Measure on user@host over ssh; default: this machine.")
@click.option("--key", "keys", multiple=True, type=PATH, metavar="PUB", help="Trust this public key and no other.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    subject: Path,
    compare: Path | None,
    data: Path | None,
    preprocess: Path | None,
    threads: int | None,
    seconds: float,
    target: str,
    keys: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Latency, throughput and memory of a model file or verified bundle, one sample at a time.

    Measures the model alone, in processes of its own: the steps around it are not in the numbers. Load, first run
    and memory are medians of three fresh processes.

    \b
    edgeward bench model.onnx
    edgeward bench model.onnx --compare out/bundle --data evaluation/
    edgeward bench out/bundle --target pi@raspberrypi
    """
    from tempfile import TemporaryDirectory

    from edgeward.cli.subject import open_subject, steps_for, threads_at
    from edgeward.cli.targets import measuring_place
    from edgeward.kit.clock import SystemClock
    from edgeward.measure import bench
    from edgeward.measure.measurement import measure
    from edgeward.measure.place import HERE

    paths = [subject] if compare is None else [subject, compare]
    opened = [
        open_subject(path, keys, threads=threads, preprocess=steps_for(path, paths, preprocess)) for path in paths
    ]
    with TemporaryDirectory(prefix="edgeward-bench-") as folder, measuring_place(target, console.note) as place:
        if place is not HERE:
            console.note(f"measuring on {target}")
        there = [threads_at(one, threads, place.facts.cpu_count) for one in opened]
        entries = [_entry(one, data, Path(folder) / str(number)) for number, one in enumerate(there)]
        found = measure(entries, seconds=seconds, seed=_SEED, clock=SystemClock(), place=place)
        timing = place.timing
    if timing == "meaningless":
        console.note(f"{target} is emulated: its times mean nothing")
    if data is None:
        console.note(f"inputs are random numbers (seed {_SEED}); --data D feeds real ones")
    measurements = [one.measurement for one in found]
    comparison = bench.compare(found[0].times_ms, found[1].times_ms, seed=_SEED) if compare else None
    if not as_json:
        _show(paths, measurements, comparison)
    elif comparison is None:
        console.print_json(measurements[0])
    else:
        console.print_json({"base": measurements[0], "other": measurements[1], "comparison": comparison})


def _entry(subject: "Subject", data: Path | None, place: Path) -> "Entry":
    """The model as a file of its own, and what it is fed with."""
    from edgeward.cli.feeds import feeds_of
    from edgeward.kit import codec
    from edgeward.measure.bench import save_feeds
    from edgeward.measure.jobs import Contender
    from edgeward.measure.measurement import Entry

    feeds = feeds_of(subject, data, verb="bench", seed=_SEED)
    model = place.with_suffix(".model")
    model.write_bytes(subject.model_bytes)
    fed = save_feeds(place.with_suffix(".npz"), feeds)
    contender = Contender(str(model), subject.runtime, subject.threads, str(fed))
    return Entry(codec.digest_of(subject.model_bytes), contender)


def _show(paths: list[Path], found: "list[Measurement]", comparison: "Comparison | None") -> None:
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
    right = tuple(range(1, len(found) + 1))
    names = [path.name if len(path.name) <= 28 else f"…{path.name[-27:]}" for path in paths]
    console.table("", ("one sample", *names), [(name, *values) for name, values in lines.items()], right=right)
    if comparison is not None:
        console.say(_sentence(paths, found, comparison))
    setting = found[0].setting
    throttled = "; throttled while it was measured" if any(one.throttled for one in found) else ""
    console.say(f"{setting.cpu}, {setting.runtime_version}, threads {setting.thread_count}")
    console.say(f"{setting.conditions}{throttled}")


def _sentence(paths: list[Path], found: "list[Measurement]", comparison: "Comparison") -> str:
    low, high = comparison.ratio_ci
    told = {
        "faster": f"{paths[1]} is faster",
        "slower": f"{paths[1]} is slower",
        "tie": "a tie: the difference is inside the noise",
    }[comparison.verdict]
    runs = min(one.latency.runs for one in found)
    return f"{told}: {comparison.ratio:.3f}× (95 % interval {low:.3f}–{high:.3f}), n {runs} each, interleaved"
