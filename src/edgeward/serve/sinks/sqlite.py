"""Results in a table of a SQLite file, the newest so many of them: each is on disk when it is counted as written."""

import sqlite3
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from edgeward.kit import codec
from edgeward.kit.errors import Failed, WrongInput
from edgeward.records.base import Document
from edgeward.serve.sinks.base import Outlet, Result, Sink

_TABLE = """CREATE TABLE IF NOT EXISTS results (
    number INTEGER PRIMARY KEY AUTOINCREMENT, pipeline TEXT NOT NULL, source TEXT NOT NULL, at TEXT NOT NULL,
    label TEXT, score REAL, total_ms REAL NOT NULL, document TEXT NOT NULL)"""
_INSERT = """INSERT INTO results (pipeline, source, at, label, score, total_ms, document)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""
_TRIM_EVERY = 100


class SqliteOptions(Document):
    """`most` rows are kept; the oldest go first. `document` is what `--json` prints, beside the columns that people
    look for."""

    path: str
    most: Annotated[int, Meta(ge=1)] = 100_000


class Table:
    def __init__(self, options: SqliteOptions, pipeline: str) -> None:
        self._path = Path(options.path)
        self._most = options.most
        self._pipeline = pipeline
        self._until_trim = 0
        try:
            self._database = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=5)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")  # WAL stays whole at a power cut, the last rows may go
            self._database.execute(_TABLE)
        except sqlite3.Error as error:
            raise WrongInput(f"{self._path}: no SQLite file can be opened or made there ({error})") from error

    def write(self, result: Result) -> None:
        answer, document = result.answer, result.document
        best = (answer.classes or answer.boxes or (None,))[0]
        row = (
            self._pipeline, result.source, result.at.isoformat(), best and best.label, best and best.score,
            document["latency_ms"]["total"], codec.to_json(document).decode(),
        )  # fmt: skip
        try:
            self._trim()
            self._database.execute(_INSERT, row)
        except sqlite3.Error as error:
            raise Failed(f"{self._path}: {error}") from error

    def _trim(self) -> None:
        """Now and then: to look at each row would cost as much as the row."""
        self._until_trim -= 1
        if self._until_trim > 0:
            return
        self._until_trim = min(_TRIM_EVERY, max(1, self._most // 10))
        self._database.execute(
            "DELETE FROM results WHERE number <= (SELECT max(number) FROM results) - ?",
            (self._most - self._until_trim,),
        )

    def close(self) -> None:
        self._database.close()


class Sqlite:
    options = SqliteOptions

    def open(self, options: SqliteOptions, pipeline: str) -> Outlet:
        return Table(options, pipeline)


plugin: Sink = Sqlite()
