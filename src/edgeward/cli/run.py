"""edgeward run: answers what a source gives with a verified bundle, and hands the answers to sinks."""

import gc
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.bundle import VerifiedBundle
    from edgeward.cli.run_text import Row
    from edgeward.infer import Predictor
    from edgeward.records.bundle import Manifest
    from edgeward.records.pipeline import Pipeline
    from edgeward.serve import Flow, Running
    from edgeward.serve.parts import Part
    from edgeward.serve.results import Result
    from edgeward.serve.sinks import Sink
    from edgeward.serve.sources import Source


class Job(NamedTuple):
    """What is to be run, whether it was said on the command line or in edgeward.toml. `said` is the source's name
    for people; one that is `declared` waits for its source, as a device does that has just started."""

    name: str
    bundle: Path
    said: str
    source: "Part[Source]"
    sinks: "tuple[Part[Sink], ...]"
    pipeline: "Pipeline | None"

    @property
    def declared(self) -> bool:
        return self.pipeline is not None


class Source_(click.ParamType):  # type: ignore[type-arg]  # noqa: N801 - click 8.1 has no such argument
    """A path or an address."""

    name = "SOURCE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return str(value)


@click.command()
@click.argument("bundle", metavar="BUNDLE", type=PATH, required=False)
@click.option("-i", "--input", "source", type=Source_(), metavar="SOURCE", help="A file, folder, device or address.")
@click.option("--sink", "sinks", multiple=True, metavar="SINK", help="Where answers go too; may be repeated.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=PATH,
    metavar="PUB",
    help="Trust this public key and no other; may be repeated.",
)
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Default: as the bundle was measured.")
@click.option("--top", type=click.IntRange(1), metavar="K", help="Name the K best classes.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Stop after N samples.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document per line and sample.")
@click.pass_context
def command(
    context: click.Context,
    bundle: Path | None,
    source: str | None,
    sinks: tuple[str, ...],
    keys: tuple[Path, ...],
    threads: int | None,
    top: int | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Answer files or a live source with a verified bundle: with classes, or with boxes in pixels of each image.

    A folder is read with its subfolders, sorted by name. An .npz holds one array per input, samples on the first
    axis. A sample that cannot be read or does not fit is told on standard error; the others are answered, and the
    exit code is then 2. A live source runs until Ctrl-C or SIGTERM. Without -i, BUNDLE is the name of a pipeline in
    edgeward.toml. docs/pipelines.md lists sources and sinks.

    \b
    edgeward run out/bundle -i photo.jpg
    edgeward run out/bundle -i evaluation.npz --json
    edgeward run out/bundle -i rtsp://camera/stream --sink results.jsonl
    edgeward run door
    """
    gc.disable()  # a short command that imports much: collecting garbage meanwhile costs a tenth of its start
    job = _job(context, bundle, source, sinks)
    verified = _verified(job.bundle, keys, job.pipeline)
    if top is not None and not _names_classes(verified.manifest):
        raise click.UsageError(f"--top: {job.bundle} names no classes")
    rows: list[Row] = []
    with _running(job, verified, threads, top, limit, keys, as_json, rows) as running:
        counts = running.run(patient=job.declared)
    if rows:
        from edgeward.cli import run_text

        run_text.show(verified.manifest, job.said, rows)
    if running.pace != "on demand":
        from edgeward.cli import run_text

        console.note(f"edgeward: {run_text.sum_of(counts)}")
        return
    _judge(job, running)


def _job(context: click.Context, bundle: Path | None, source: str | None, sinks: Sequence[str]) -> Job:
    """Raises UsageError where neither a source nor a pipeline is named."""
    from edgeward.serve import parts

    more = tuple(parts.sink_of(one) for one in sinks)
    if source is None or _names_a_pipeline(context, bundle):
        from edgeward.cli import configuration

        file = Path(configuration.NAME)
        if not file.is_file():
            raise click.UsageError(f"-i is missing, and there is no {configuration.NAME} here that declares a pipeline")
        from edgeward.serve import declared

        found = declared.read(file, None if bundle is None else str(bundle))
        one = found.pipeline
        return Job(one.name, Path(one.bundle), one.name, found.source, (*found.sinks, *more), one)
    if bundle is None:
        raise click.UsageError("BUNDLE is missing: which bundle answers?")
    return Job("", bundle, source, parts.source_of(source), more, None)


def _names_a_pipeline(context: click.Context, bundle: Path | None) -> bool:
    """Where -i comes from a file or the environment, and the argument is the name of a pipeline."""
    from click.core import ParameterSource

    if bundle is None or context.get_parameter_source("source") is ParameterSource.COMMANDLINE:
        return False
    from edgeward.cli import configuration
    from edgeward.serve import declared

    return str(bundle) in declared.names(Path(configuration.NAME))


def _verified(path: Path, keys: Sequence[Path], pipeline: "Pipeline | None") -> "VerifiedBundle":
    from edgeward.bundle import trusted_keys, verify
    from edgeward.cli.fitting import fitting_bundle

    trusted = tuple(keys) or tuple(Path(key) for key in (pipeline.keys if pipeline else ()))
    return verify(fitting_bundle(path), trusted_keys(trusted))


def _names_classes(manifest: "Manifest") -> bool:
    from edgeward.records.model import Classify

    return any(isinstance(step, Classify) for step in manifest.postprocess)


@contextmanager
def _running(
    job: Job, verified: "VerifiedBundle", threads: int | None, top: int | None, limit: int | None,
    keys: Sequence[Path], as_json: bool, rows: "list[Row]",
) -> "Iterator[Running]":  # fmt: skip
    """The pipeline, ready to run; Ctrl-C and SIGTERM end it after the sample under way."""
    from edgeward.kit import notify
    from edgeward.serve.pipeline import Running
    from edgeward.serve.sources.base import Wanted

    live = job.source.member.pace(job.source.options) != "on demand"
    tell = _teller(live)
    outlets = [(part.name, part.member.open(part.options, job.name or verified.manifest.name)) for part in job.sinks]
    if as_json:
        from edgeward.serve.outlets import Printed

        outlets.insert(0, ("json", Printed()))

    def load() -> "Predictor":
        from edgeward.bundle import open_predictor

        wanted = threads or (job.pipeline.threads if job.pipeline else None)
        predictor = open_predictor(verified, threads=wanted)
        gc.enable()
        named = predictor if top is None else _naming(predictor, verified.manifest, top)
        if live and notify.is_managed():
            _be_managed(running, verified, named, job.name or verified.manifest.name)
        return named

    running = Running(
        load,
        job.source,
        Wanted.of(verified.manifest),
        outlets,
        flow=_flow(job, verified, limit, keys),
        tell=tell,
        seen=_seer(tell, rows, live=live, shows=not as_json and not (live and job.sinks)),
    )
    with _stopped_by_signals(running, live):
        yield running


def _be_managed(running: "Running", verified: "VerifiedBundle", predictor: "Predictor", name: str) -> None:
    """Ready for the service manager after the self-test, and from then on watched by it."""
    from edgeward.bundle import run_self_test
    from edgeward.cli import run_text
    from edgeward.kit.errors import Refused
    from edgeward.measure.naming import target_name
    from edgeward.serve.heart import Heart

    result = run_self_test(verified, predictor, target=target_name)
    if not result.passed:
        raise Refused(f"{verified.reference}: fails its self-test on this machine: {result.reason}")
    sample = {input_: samples[0] for input_, samples in verified.self_test()[0].items()}
    heart = Heart(name, predictor, sample, lambda: f"runs {name}: {run_text.sum_of(running.counts)}")
    running.between, running.ending = heart.beat, heart.stop


def _flow(job: Job, verified: "VerifiedBundle", limit: int | None, keys: Sequence[Path]) -> "Flow":
    from edgeward.serve.pipeline import Flow

    said, packed = job.pipeline, verified.manifest.flow
    if said is None and not packed:
        return Flow(limit=limit)
    from edgeward.records.pipeline import flowing

    queue, batch, threshold = flowing(said, packed or None)
    skips = second = followed = None
    if said is not None and said.follow:
        from edgeward.infer.stream import begin

        followed = begin(said.follow, verified.manifest.postprocess, verified.manifest.labels)
    if threshold is not None:
        from edgeward.serve.unchanged import Unchanged

        skips = Unchanged(threshold)
    if said is not None and said.cascade is not None:
        from edgeward.bundle import open_predictor
        from edgeward.kit.errors import WrongInput
        from edgeward.records.model import Detect
        from edgeward.serve.arrival import Wanted
        from edgeward.serve.cascade import Second

        if not any(isinstance(step, Detect) for step in verified.manifest.postprocess):
            raise WrongInput(f"pipeline {said.name!r}: {job.bundle} finds no boxes that a cascade could look at")
        other = _verified(Path(said.cascade.bundle), keys, said)
        if other.manifest.kind != "image":
            raise WrongInput(f"pipeline {said.name!r}: {said.cascade.bundle} takes no images, which crops are")
        channels = Wanted.of(other.manifest).channels
        second = Second(open_predictor(other, threads=said.threads), said.cascade, channels)
    return Flow(queue=queue, batch=batch, skips=skips, second=second, followed=followed, limit=limit)


def _naming(predictor: "Predictor", manifest: "Manifest", top: int) -> "Predictor":
    """The same model, naming its `top` best classes."""
    from msgspec.structs import replace

    from edgeward.infer import Predictor
    from edgeward.records.model import Classify

    steps = tuple(replace(step, top=top) if isinstance(step, Classify) else step for step in manifest.postprocess)
    return Predictor(
        predictor.session,
        preprocess=manifest.preprocess,
        postprocess=steps,
        labels=manifest.labels,
        folded=manifest.folded,
    )


def _teller(live: bool) -> Callable[[str], None]:
    def tell(sentence: str) -> None:
        console.note(f"edgeward: {sentence}")

    if not live:
        return tell
    from edgeward.kit.clock import SystemClock
    from edgeward.serve.telling import Sparing

    return Sparing(tell, SystemClock())


def _seer(tell: Callable[[str], None], rows: "list[Row]", *, live: bool, shows: bool) -> "Callable[[Result], None]":
    """Keeps a row of each answer to a file for the table, and shows one of a live source at once."""
    import numpy as np

    def see(result: "Result") -> None:
        for output, value in result.answer.outputs.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                tell(f"{result.source}: the answer {output!r} is not finite (NaN or infinity), null in JSON")
        if not shows:
            return
        from edgeward.cli import run_text

        row = run_text.row_of(result.source, result.answer)
        if live:
            console.say(run_text.line_of(row, result.age_ms))
        else:
            rows.append(row)

    return see


@contextmanager
def _stopped_by_signals(running: "Running", live: bool) -> Iterator[None]:
    """The first one ends the run in good order, one that comes a second later at once (`timeout` sends two in a row).
    Ctrl-C over files stops them as it does any verb."""
    taken = (signal.SIGINT, signal.SIGTERM) if live else (signal.SIGTERM,)
    first: list[float] = []

    def stop(number: int, frame: Any) -> None:  # noqa: ARG001 - the promise of signal.signal
        running.stop()
        first.append(monotonic())
        if first[-1] - first[0] > 1:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    before = {number: signal.signal(number, stop) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _judge(job: Job, running: "Running") -> None:
    """Raises what the exit code of a run over files tells."""
    from edgeward.kit.errors import Failed, WrongInput

    counts = running.counts
    if running.stopped:
        console.note(f"edgeward: stopped after {counts.answered} samples")
        raise click.exceptions.Exit(128 + signal.SIGTERM)
    if counts.bad:
        bad, all_ = counts.bad, counts.bad + counts.answered
        raise WrongInput(f"{job.said}: {bad} of {all_} samples could not be answered; they are named above")
    for name, count in counts.sinks.items():
        raise Failed(f"sink {name}: did not take {count} of {counts.answered} results; the reasons are above")
