"""Messages that wait to be sent, the newest so many of them; in a file they outlive the process."""

import sqlite3
from pathlib import Path
from threading import Lock

from edgeward.kit.errors import Failed, WrongInput


class Spool:
    """In order. What is put while `most` wait drops the oldest, and `dropped` counts it."""

    def __init__(self, path: Path | None, most: int) -> None:
        self._shown = str(path) if path else "memory"
        self._most = most
        self._lock = Lock()
        self.dropped = 0
        try:
            self._database = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS waiting (number INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL)"
            )
        except sqlite3.Error as error:
            raise WrongInput(f"{path}: no spool can be opened or made there ({error})") from error
        self._count = int(self._one("SELECT count(*) FROM waiting"))

    def __len__(self) -> int:
        return self._count

    def _one(self, question: str) -> int:
        return int(self._database.execute(question).fetchone()[0])

    def put(self, data: bytes) -> None:
        with self._lock:
            try:
                self._database.execute("INSERT INTO waiting (data) VALUES (?)", (data,))
                self._count += 1
                if self._count > self._most:
                    self._database.execute("DELETE FROM waiting WHERE number = (SELECT min(number) FROM waiting)")
                    self._count -= 1
                    self.dropped += 1
            except sqlite3.Error as error:
                raise Failed(f"{self._shown}: {error}") from error

    def first(self) -> tuple[int, bytes] | None:
        """The oldest, with its number."""
        with self._lock:
            row = self._database.execute("SELECT number, data FROM waiting ORDER BY number LIMIT 1").fetchone()
        return None if row is None else (int(row[0]), bytes(row[1]))

    def remove(self, number: int) -> None:
        """It was sent, or given up. One that was dropped meanwhile is gone already."""
        with self._lock:
            self._count -= self._database.execute("DELETE FROM waiting WHERE number = ?", (number,)).rowcount

    def close(self) -> None:
        with self._lock:
            self._database.close()
