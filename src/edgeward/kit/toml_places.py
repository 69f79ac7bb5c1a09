"""Where in a TOML text something is said: line and column of a key or table, for the sentence about its fault.

The parser keeps no places. So a key is found by trying: the text is changed at each place that could be it, and read
again; where the change appears at the wanted path, that was the place.
"""

import re
import tomllib
from collections.abc import Callable, Sequence
from typing import Any

Path = Sequence[str | int]
"""Keys and indices, from the top of the document: ("pipeline", 0, "source", "url")."""

_MARK = "edgeward-place"


def path_of(said: str) -> tuple[str | int, ...]:
    """The path in a fault's own words: "$.pipeline[0].url" or "$[0][...]", which names no key and ends there."""
    found = re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", said.split("[...]", maxsplit=1)[0])
    return tuple(int(index) if index else key for key, index in found)


def place_of(text: str, path: Path) -> tuple[int, int]:
    """Line and column, from 1, of the key or table at `path`; of the nearest one around it where that is not written
    out; 1, 1 where nothing of it is."""
    for end in range(len(path), 0, -1):
        at = _table(text, path[:end]) if isinstance(path[end - 1], int) else _key(text, path[:end])
        if at is not None:
            return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1
    return 1, 1


def _key(text: str, path: Path) -> int | None:
    key = str(path[-1])
    before = value_at(tomllib.loads(text), path[:-1])

    def is_here(around: Any) -> bool:
        if not (isinstance(around, dict) and isinstance(before, dict)):
            return False
        return _MARK in around and (key not in around or around[key] != before.get(key))

    for found in re.finditer(rf"(?<![\w-])(?:{re.escape(key)}|\"{re.escape(key)}\"|'{re.escape(key)}')(?![\w-])", text):
        if _changed(text[: found.start()] + _MARK + text[found.end() :], path[:-1], is_here):
            return found.start()
    return None


def _table(text: str, path: Path) -> int | None:
    """A table in a list: `[[name]]`, or `{…}` inside `[…]`."""
    for found in re.finditer(r"^[ \t]*(\[\[[^\n]*)$|(\{)", text, re.MULTILINE):
        is_head = found.group(1) is not None
        said = f"\n{_MARK} = 1\n" if is_head else f"{_MARK} = 1, "
        if _changed(text[: found.end()] + said + text[found.end() :], path, lambda table: _MARK in table):
            return found.start(1) if is_head else found.start(2)
    return None


def _changed(text: str, path: Path, is_here: Callable[[Any], bool]) -> bool:
    try:
        around = value_at(tomllib.loads(text), path)
    except tomllib.TOMLDecodeError:
        return False
    return around is not None and is_here(around)


def value_at(document: Any, path: Path) -> Any:
    """What stands at `path` of a document that was read; None where there is nothing."""
    for step in path:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document
