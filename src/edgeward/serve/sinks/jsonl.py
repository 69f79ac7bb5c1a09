"""A line of JSON for each result, into a file that is rotated, or to standard output."""

import os
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from edgeward.records.base import Document
from edgeward.serve.outlets import Printed
from edgeward.serve.sinks.base import Outlet, Result, Sink

STANDARD_OUTPUT = "-"


class JsonlOptions(Document):
    """`path` grows to `max_bytes`, then becomes `path.1`, and `keep` such older files stay: so much disk, and no more.
    "-" is standard output."""

    path: str
    max_bytes: Annotated[int, Meta(ge=1)] = 100_000_000
    keep: Annotated[int, Meta(ge=0, le=1000)] = 5


class Written:
    """A line is written whole or taken back: what reads the file never meets half of one, a full disk included."""

    def __init__(self, options: JsonlOptions) -> None:
        self._path = Path(options.path)
        self._options = options
        self._open()
        _end_the_last_line(self._file, self._path)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._size = os.fstat(self._file).st_size

    def write(self, result: Result) -> None:
        line = result.line
        if self._size and self._size + len(line) > self._options.max_bytes:
            self._rotate()
        try:
            written = os.write(self._file, line)
            if written < len(line):
                os.write(self._file, line[written:])  # the full disk says so in its own words
        except OSError as error:
            if self._path.is_file():
                os.ftruncate(self._file, self._size)
            error.filename = str(self._path)
            raise
        self._size += len(line)

    def _rotate(self) -> None:
        os.close(self._file)
        for number in range(self._options.keep, 0, -1):
            older = self._numbered(number - 1) if number > 1 else self._path
            if older.exists():
                older.replace(self._numbered(number))
        if self._options.keep == 0:
            self._path.unlink()
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def close(self) -> None:
        os.close(self._file)


def _end_the_last_line(file: int, path: Path) -> None:
    """A power cut leaves half a line: the next begins on its own."""
    size = os.fstat(file).st_size
    if path.is_file() and size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")


class Jsonl:
    options = JsonlOptions

    def open(self, options: JsonlOptions, pipeline: str) -> Outlet:  # noqa: ARG002 - the promise names it
        return Printed() if options.path == STANDARD_OUTPUT else Written(options)


plugin: Sink = Jsonl()
