"""The options of the verbs that speak to registries."""

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.bundle.registry import Access

_Command = TypeVar("_Command", bound=Callable[..., Any])


def options(command: _Command) -> _Command:
    """--plain-http, --ca and --mirror."""
    for option in (
        click.option(
            "--mirror", "mirrors", multiple=True, metavar="HOST", help="Ask this registry, or device, for blobs first."
        ),
        click.option("--ca", type=PATH, metavar="FILE", help="Trust the authorities in this PEM file, too."),
        click.option("--plain-http", is_flag=True, help="Without encryption, also beyond this machine."),
    ):
        command = option(command)
    return command


def access(plain_http: bool, ca: Path | None, mirrors: tuple[str, ...]) -> "Access":
    from edgeward.bundle.registry import Access

    return Access(plain_http, ca, mirrors)


@contextmanager
def telling(words: str) -> "Iterator[Callable[[int, int], None]]":
    """Shows how much has moved, of how much."""
    with console.bar() as shown:
        yield lambda moved, total: shown.stage(f"{words} ({console.size(total)})", moved / total if total else 1.0)


def bytes_per_s(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """Of "500k", "2M" or a plain number."""
    if text is None:
        return None
    scale = {"k": 1e3, "m": 1e6, "g": 1e9}.get(text[-1:].lower(), 1.0)
    number = text[:-1] if scale > 1 else text
    if not number.replace(".", "", 1).isdigit() or float(number) <= 0:
        raise click.BadParameter(f"{text!r} is no rate, such as 500k or 2M bytes a second", context, parameter)
    return float(number) * scale
