"""edgeward trace: why some inferences of a process are late."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console

if TYPE_CHECKING:
    from edgeward.measure.bpftrace_run import Missing
    from edgeward.measure.trace import Trace, Wish

_SEED = 20261127


class _Duration(click.ParamType[float]):
    """ "20ms" or "0.5s", in milliseconds."""

    name = "duration"

    def convert(self, value: object, parameter: click.Parameter | None, context: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|us|µs|s)", str(value))
        if found is None or float(found[1]) == 0:
            self.fail(f"{value!r} is no duration; wanted one such as 20ms", parameter, context)
        return float(found[1]) * {"s": 1000, "ms": 1, "us": 1e-3, "µs": 1e-3}[found[2]]


@click.command()
@click.argument("target", metavar="PID|BUNDLE|MODEL")
@click.option("--seconds", type=click.FloatRange(1, 3600), default=10.0, show_default=True, help="How long to watch.")
@click.option(
    "--percentile", type=click.FloatRange(50, 100, max_open=True), default=99.0, show_default=True,
    help="Late is what is slower than so many percent.",
)  # fmt: skip
@click.option("--late", "late_ms", type=_Duration(), metavar="20ms", help="Late is what takes so long, or longer.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Of a model or bundle that is run here.")
@click.option("--key", "keys", multiple=True, type=click.Path(path_type=Path), metavar="PUB", help="Trust this key.")
@click.option("--mount-tracefs", is_flag=True, help="Mount the kernel's trace events where they are not (root).")
@click.option("--plain", is_flag=True, help="Without bpftrace: with the process's own counters.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    target: str,
    seconds: float,
    percentile: float,
    late_ms: float | None,
    threads: int | None,
    keys: tuple[Path, ...],
    mount_tracefs: bool,
    plain: bool,
    as_json: bool,
) -> None:
    """Why the slowest inferences are late: waits for a CPU and who had it, memory, disks, interrupts, the clock.

    PID is a running `edgeward serve` or `edgeward run`; a model or bundle is run here, again and again. With bpftrace
    (root) the kernel is watched; without it, what the process may know of itself. What was not seen is told.

    \b
    edgeward trace $(pgrep -f 'edgeward serve')
    edgeward trace out/bundle --seconds 20
    edgeward trace 4711 --late 20ms --json
    """
    from edgeward.cli.trace_text import show
    from edgeward.measure.bpftrace_run import Missing, missing
    from edgeward.measure.trace import Wish

    if mount_tracefs:
        _mount()
    stands_in_the_way = Missing("--plain was asked for", "leave out --plain") if plain else missing()
    found = _traced(target, Wish(seconds, percentile, late_ms), stands_in_the_way, threads, keys)
    if as_json:
        console.print_json(found)
    else:
        show(found, percentile if late_ms is None else None)
    if found.ended == "stopped":
        raise click.exceptions.Exit(130)


def _traced(
    target: str, wish: "Wish", missing: "Missing | None", threads: int | None, keys: tuple[Path, ...]
) -> "Trace":
    from edgeward.kit.errors import WrongInput
    from edgeward.measure.frame_ring import FrameRing
    from edgeward.measure.trace import trace

    if target.isdigit() and not Path(target).exists():
        with FrameRing(int(target)) as ring, console.progress() as shown:
            return trace(ring, wish, missing, shown.stage)
    if not Path(target).exists():
        raise WrongInput(f"{target}: no such file, folder or process", hint="pgrep -af edgeward")
    with _looping(Path(target), threads, keys) as pid, FrameRing(pid) as ring, console.progress() as shown:
        return trace(ring, wish, missing, shown.stage)


@contextmanager
def _looping(path: Path, threads: int | None, keys: tuple[Path, ...]) -> Iterator[int]:
    """A process that runs the model again and again; its number."""
    import sys
    from tempfile import TemporaryDirectory

    import msgspec

    from edgeward.cli.feeds import feeds_of
    from edgeward.cli.subject import open_subject
    from edgeward.kit.process import Partner
    from edgeward.measure.bench import answer_of, save_feeds
    from edgeward.measure.jobs import Contender, Ready

    subject = open_subject(path, keys, threads=threads)
    with TemporaryDirectory(prefix="edgeward-trace-") as folder:
        model = Path(folder) / "model"
        model.write_bytes(subject.model_bytes)
        feeds = save_feeds(Path(folder) / "feeds.npz", feeds_of(subject, None, verb="trace", seed=_SEED))
        contender = Contender(str(model), subject.runtime, subject.threads, str(feeds))
        with Partner((sys.executable, "-m", "edgeward.measure.looping")) as partner:
            answer_of(partner.ask(msgspec.msgpack.encode(contender), limit_s=120), Ready)
            yield partner.pid


def _mount() -> None:
    from edgeward.kit.errors import Failed
    from edgeward.measure.bpftrace_run import MOUNT_TRACEFS, tracefs

    if tracefs() is not None:
        return
    done = subprocess.run(MOUNT_TRACEFS.split(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"the trace events could not be mounted: {done.stderr.strip()}", hint=f"sudo {MOUNT_TRACEFS}")
