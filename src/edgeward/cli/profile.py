"""edgeward profile: where a model's time goes, where it runs, and why it is not faster."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from edgeward.cli.subject import Subject
    from edgeward.infer.runtimes import Session
    from edgeward.measure.place import Place
    from edgeward.records.profile import ModelProfile

_SEED = 20261120


@click.command()
@click.argument("subject", metavar="X", type=PATH)
@click.option("--data", type=PATH, metavar="D", help="Feed real samples; without it, seeded random numbers.")
@click.option("--preprocess", type=PATH, metavar="FILE", help="What a raw sample needs, in TOML; for a plain model.")
@click.option("--runtime", metavar="NAME", help="Default: the bundle's, or ONNX Runtime, or LiteRT for a .tflite.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Default: as the bundle says, or 1.")
@click.option("--seconds", type=click.FloatRange(0.1, 120), default=3.0, show_default=True, help="Of running it.")
@click.option("--target", default="", metavar="HOST", help="Profile on user@host over ssh; default: this machine.")
@click.option("--order", type=click.Choice(("time", "graph")), default="time", show_default=True, help="Of the table.")
@click.option(
    "--require", "required", multiple=True, metavar="WHERE:N%",
    help="Fail with exit code 3 unless so much of the layers' time is there, such as cpu-int8:90% or xnnpack:100%; "
    "with :nodes or :macs behind it, so many of the operators or multiply-accumulates.",
)  # fmt: skip
@click.option("--flame", is_flag=True, help="Also sample the runtime's own functions with perf, as a flame graph.")
@click.option("-o", "output", type=PATH, metavar="DIR", help="Write report.html, profile.json, layers.csv, trace.json.")
@click.option("--overwrite", is_flag=True, help="Replace what is in DIR.")
@click.option("--key", "keys", multiple=True, type=PATH, metavar="PUB", help="Trust this public key and no other.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    subject: Path, data: Path | None, preprocess: Path | None, runtime: str | None, threads: int | None,
    seconds: float, target: str, order: str, required: tuple[str, ...], flame: bool, output: Path | None,
    overwrite: bool, keys: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Each layer's time, where every operator ran, its share of what this machine can do, and the largest losses.

    The limits are measured here, with the runtime's own kernels. Shares are of a whole run without the profiler.

    \b
    edgeward profile model.onnx -o profile/
    edgeward profile out/bundle --data evaluation/ --require cpu-int8:90%
    edgeward profile out/bundle --target pi@raspberrypi -o profile/
    """
    _check_packages()
    from contextlib import ExitStack

    from msgspec.structs import replace

    from edgeward.cli.profile_words import command_line, show
    from edgeward.cli.subject import threads_at
    from edgeward.cli.targets import measuring_place
    from edgeward.kit import files
    from edgeward.kit.errors import Unsupported
    from edgeward.measure.profiling import requirements

    wanted = [requirements.parse(text) for text in required]
    _check_flame(target, flame=flame)
    if flame:
        from edgeward.measure.profiling.flame import check_perf

        check_perf()
    with ExitStack() as stack:
        folder = None if output is None else stack.enter_context(files.new_folder(output, overwrite=overwrite))
        opened = _open(subject, keys, runtime, threads, preprocess)
        place = stack.enter_context(measuring_place(target, console.note))
        if place.timing == "meaningless":
            raise Unsupported(f"--target: {target} is emulated, and its times mean nothing")
        opened = threads_at(opened, threads, place.facts.cpu_count)
        found = _profiled(opened, data, seconds, place, quiet=as_json)
        outcomes = tuple(requirements.judge(one, found) for one in wanted)
        found = replace(found, requirements=outcomes, command=command_line())
        graph = _flame(opened, data, seconds) if flame else ""
        if folder is not None:
            from edgeward.cli.profile_folder import write

            write(found, folder, graph)
        elif graph:
            files.write_atomic(Path("flame.svg"), graph.encode())
    if data is None:
        console.note(f"inputs are random numbers (seed {_SEED}); --data D feeds real ones")
    if as_json:
        console.print_json(found)
    else:
        show(found, order, output, flame=bool(graph))
    _gate(found)


def _check_packages() -> None:
    """Raises Unsupported where the packages that read graphs and draw are not installed, as on a device."""
    from importlib.util import find_spec

    from edgeward.kit.errors import Unsupported

    missing = [name for name in ("onnx", "svg", "flatbuffers") if find_spec(name) is None]
    if missing:
        raise Unsupported(
            f"profile needs the package {missing[0]}, which is not installed", hint="pip install 'edgeward[optimize]'"
        )


def _open(
    path: Path, keys: tuple[Path, ...], runtime: str | None, threads: int | None, preprocess: Path | None
) -> "Subject":
    from edgeward.cli.subject import open_subject, steps_for
    from edgeward.infer import runtimes

    opened = open_subject(path, keys, threads=threads, preprocess=steps_for(path, [path], preprocess))
    if runtime is None or runtime == opened.runtime:
        return opened
    return opened._replace(
        runtime=runtime, session=_session(opened, runtime, runtimes.load(runtime).formats)
    )  # fmt: skip


def _session(opened: "Subject", runtime: str, formats: tuple[str, ...]) -> "Session":
    from edgeward.infer import runtimes
    from edgeward.kit.errors import Unsupported, WrongInput

    own = runtimes.load(opened.runtime).formats
    if not set(own) & set(formats):
        raise WrongInput(
            f"{opened.path}: {runtime} runs {' and '.join(formats)} models, this is {' or '.join(own)}",
            hint="edgeward optimize tries a model in every runtime",
        )
    try:
        return runtimes.load(runtime).load(opened.model_bytes, threads=opened.threads)
    except (WrongInput, Unsupported) as error:
        raise type(error)(f"{opened.path}: {error.message}", hint=error.hint) from error


def _check_flame(target: str, *, flame: bool) -> None:
    from edgeward.cli.targets import HERE
    from edgeward.kit.errors import Unsupported

    if flame and target not in HERE:
        raise Unsupported(
            "--flame samples processes of this machine alone", hint=f"without --flame, or there: ssh {target}"
        )


def _profiled(subject: "Subject", data: Path | None, seconds: float, place: "Place", *, quiet: bool) -> "ModelProfile":
    from edgeward.cli.feeds import feeds_of
    from edgeward.kit.clock import SystemClock
    from edgeward.measure.profiling.profile import Given, profile

    feeds = [
        {name: value[None] for name, value in feed.items()}
        for feed in feeds_of(subject, data, verb="profile", seed=_SEED)
    ]
    given = Given(subject.path.name, subject.model_bytes, subject.runtime, subject.threads, feeds)
    with console.progress(quiet=quiet) as bar:
        return profile(given, seconds=seconds, clock=SystemClock(), place=place, stage=bar.stage)


def _flame(subject: "Subject", data: Path | None, seconds: float) -> str:
    """The flame graph of so many seconds of runs, as an SVG."""
    from tempfile import TemporaryDirectory

    from edgeward.cli.feeds import feeds_of
    from edgeward.measure.bench import save_feeds
    from edgeward.measure.jobs import Contender
    from edgeward.measure.profiling.flame import flame_graph

    with TemporaryDirectory(prefix="edgeward-flame-") as place:
        model = Path(place) / "model"
        model.write_bytes(subject.model_bytes)
        fed = save_feeds(Path(place) / "feeds.npz", feeds_of(subject, data, verb="profile", seed=_SEED))
        contender = Contender(str(model), subject.runtime, subject.threads, str(fed))
        return flame_graph(contender, seconds, title=f"{subject.path.name} in {subject.runtime}")


def _gate(found: "ModelProfile") -> None:
    from edgeward.kit.errors import GateMissed
    from edgeward.measure.profiling.requirements import failures, sentence

    missed = failures(found.requirements)
    if missed:
        raise GateMissed("; ".join(map(sentence, missed)))
