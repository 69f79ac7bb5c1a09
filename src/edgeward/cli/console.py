"""What a person sees: tables on a terminal, one JSON document for programs, progress on standard error."""

import re
import shutil
import signal
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from edgeward.kit import codec
from edgeward.kit.figures import milliseconds as milliseconds
from edgeward.kit.figures import size as size

if TYPE_CHECKING:
    from rich.table import Table


_UNITS = re.compile(r"(?<=\d) (?=(?:[kMGT]?B|[µm]?s|%|×|ms)\b|%)")
"""The space between a number and its unit."""


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.buffer.write(codec.to_pretty_json(document))
    sys.stdout.flush()


def say(text: str = "") -> None:
    """A line for a person on standard output."""
    sys.stdout.write(text + "\n")


def paragraph(text: str, *, hang: int = 0) -> None:
    """A sentence for a person on standard output; on a terminal, lines end between words, a number stays with its
    unit, and what is folded stands under the beginning of the text, or under its column `hang`."""
    say(_folded(text, hang) if sys.stdout.isatty() else text)


def _folded(text: str, hang: int = 0) -> str:
    width = shutil.get_terminal_size().columns
    indent = " " * (len(text) - len(text.lstrip()) + 2) if text.startswith(" ") else " " * hang
    held = _UNITS.sub("\u00a0", text)
    return textwrap.fill(
        held, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    ).replace("\u00a0", " ")  # fmt: skip


def note(text: str) -> None:
    """A line for a person on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """A table on standard output; the columns numbered in `right` hold numbers."""
    from rich.console import Console

    Console(soft_wrap=False).print(_table(title, columns, rows, right))


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False,
        pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for index, column in enumerate(columns):
        is_number = index in right
        # A number stays with its unit; where the table is too wide, words are folded.
        made.add_column(column, justify="right" if is_number else "left", overflow="fold", no_wrap=is_number)
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


class Progress(Protocol):
    """Told how far long work has come."""

    def stage(self, text: str, done: float) -> None:
        """Work has come to `text`; `done` is the share of all of it, 0..1."""
        ...

    def say(self, text: str) -> None:
        """A line that stays above what comes after it."""
        ...


class _Quiet:
    """A line for each new text, and for each tenth of the work that has the same one."""

    def __init__(self) -> None:
        self._said: tuple[str, int] | None = None

    def stage(self, text: str, done: float) -> None:
        now = (text, int(done * 10))
        if now != self._said:
            note(f"[{done:4.0%}] {text}")
        self._said = now

    def say(self, text: str) -> None:
        note(_folded(text) if sys.stderr.isatty() else text)


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """A bar with the time left on a terminal's standard error; plain lines where that is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield _Quiet()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(24), TaskProgressColumn(), TimeRemainingColumn(compact=True), TextColumn("{task.description}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)

        class Shown:
            def stage(self, text: str, done: float) -> None:
                bar.update(task, description=text, completed=done)

            def say(self, text: str) -> None:
                bar.console.print(_folded(text), markup=False, highlight=False, soft_wrap=True)

        yield Shown()


@contextmanager
def stoppable(shown: Progress) -> Iterator[Progress]:
    """`shown`, which raises KeyboardInterrupt at the next stage after a Ctrl-C that Python lost: one that comes while
    an object is cleared away is printed and forgotten."""
    came = False

    def remember(_number: int, _frame: object) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    class Stoppable:
        def stage(self, text: str, done: float) -> None:
            if came:
                raise KeyboardInterrupt
            shown.stage(text, done)

        def say(self, text: str) -> None:
            shown.say(text)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield Stoppable()
    finally:
        signal.signal(signal.SIGINT, before)


class _Silent:
    def stage(self, text: str, done: float) -> None:
        pass

    def say(self, text: str) -> None:
        pass


@contextmanager
def bar(*, quiet: bool = False) -> Iterator[Progress]:
    """A bar with the time left on a terminal's standard error; nothing where that is no terminal, for work of
    seconds that has nothing to tell before it is done."""
    if quiet or not sys.stderr.isatty():
        yield _Silent()
        return
    with progress() as shown, stoppable(shown) as stopping:
        yield stopping
