"""edgeward top: what a machine and its services do, live."""

import re
import sys
from typing import TYPE_CHECKING

import click

from edgeward.cli import console

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.cli.frames import Frames
    from edgeward.records.watch import Frame

_SHORTEST_S, _LONGEST_S = 0.1, 3600.0
_STOPPED = 130


def _seconds(context: click.Context, parameter: click.Parameter, text: str) -> float:
    """Seconds of "1s", "500ms", "2m" or a plain number."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|m|min)?", text.strip())
    scale = {"ms": 0.001, "m": 60.0, "min": 60.0}
    seconds = float(found[1]) * scale.get(found[2] or "s", 1.0) if found else 0.0
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise click.BadParameter(f"{text!r} is no time between 100ms and 60m", context, parameter)
    return seconds


@click.command()
@click.argument("host", required=False)
@click.option("--url", "urls", multiple=True, metavar="URL", help="Look at this service alone; may be given again.")
@click.option(
    "--interval", callback=_seconds, metavar="TIME", default="1s", show_default=True, help="Such as 500ms, 1s or 1m."
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N looks.")
@click.option("--once", is_flag=True, help="Look over one interval, print a table, end; the same without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per interval: the Frame record.")
def command(
    host: str | None, urls: tuple[str, ...], interval: float, count: int | None, once: bool, as_json: bool
) -> None:
    """What this machine or HOST does now: its services, their models' rate, percentiles, queue and drops; CPU by
    thread, memory, heat and power.

    \b
    edgeward top
    edgeward top pi@raspberrypi
    edgeward top --json --interval 5s --count 12

    HOST is looked at over your own ssh; it needs Python 3.9 and nothing else, and nothing is written there.
    """
    live = not as_json and not once and sys.stdout.isatty() and sys.stdin.isatty()
    _check(urls)
    run_live = _live_view() if live else None
    frames = _frames(host, interval, urls, soon=live)
    try:
        if run_live is not None:
            run_live(frames, host, interval, count)
        else:
            _print(frames, count or (None if as_json else 1), host, as_json=as_json)
    except KeyboardInterrupt:  # it is how one ends what has no end
        raise click.exceptions.Exit(_STOPPED) from None
    finally:
        frames.close()


def _check(urls: tuple[str, ...]) -> None:
    from urllib.parse import urlsplit

    from edgeward.kit.errors import WrongInput

    for url in urls:
        try:
            parts = urlsplit(url)
            fits = parts.scheme == "http" and parts.hostname and parts.path in ("", "/") and (parts.port or 80)
        except ValueError:
            fits = False
        if not fits:
            raise WrongInput(f"--url: {url!r} is no address of a service", hint="--url http://127.0.0.1:8000")


def _live_view() -> "Callable[[Frames, str | None, float, int | None], None]":
    """The live view. Raises Unsupported without its package."""
    from edgeward.kit.errors import Unsupported

    try:
        from edgeward.cli.top_view import run_live
    except ModuleNotFoundError as error:
        raise Unsupported(
            f"the live view needs the package {error.name!r}, which is not installed; --once and --json work without",
            hint="pip install 'edgeward[top]', or edgeward top --once",
        ) from error
    return run_live


def _frames(host: str | None, interval: float, urls: tuple[str, ...], *, soon: bool) -> "Frames":
    import platform

    from edgeward.cli.frames import FramesHere, FramesThere
    from edgeward.cli.probe import HERE

    if host in (None, *HERE, platform.node()):
        return FramesHere(interval, urls, soon=soon)
    if not soon:
        console.note(f"connecting to {host}")
    return FramesThere(host or "", interval, urls, soon=soon)


def _print(frames: "Frames", count: int | None, host: str | None, *, as_json: bool) -> None:
    from edgeward.kit import codec

    for number, frame in enumerate(frames, start=1):
        if as_json:
            sys.stdout.buffer.write(codec.to_json(frame) + b"\n")
        else:
            _print_table(frame, host)
        sys.stdout.flush()
        if number == count:
            return


def _print_table(frame: "Frame", host: str | None) -> None:
    import os
    import shutil

    from edgeward.cli.top_text import plain, screen, speaks_unicode

    width = shutil.get_terminal_size((100, 24)).columns
    console.say(f"{frame.machine.hostname} at {frame.at:%Y-%m-%d %H:%M:%S} UTC")
    for line in screen(frame, width, where=f"on {host}" if host else "here"):
        console.say(line.text if speaks_unicode(sys.stdout.encoding, os.environ) else plain(line.text))
