"""The pipelines of an edgeward.toml, with every fault told by its line and column."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edgeward.kit.errors import WrongInput
from edgeward.kit.toml_places import path_of, place_of
from edgeward.records.pipeline import Pipeline
from edgeward.serve import parts
from edgeward.serve.parts import Misfit, Part, plain
from edgeward.serve.sinks import Sink
from edgeward.serve.sources import Source


class Declared(NamedTuple):
    """A pipeline with its source and sinks found and their options checked."""

    pipeline: Pipeline
    source: Part[Source]
    sinks: tuple[Part[Sink], ...]


def names(path: Path) -> list[str]:
    """Of the pipelines in the file, in its order; none where there is no such file."""
    return [one.name for one in _read(path)[1]] if path.is_file() else []


def read(path: Path, name: str | None) -> Declared:
    """The pipeline `name`, or the only one. Raises WrongInput with file, line and column of what is wrong."""
    text, pipelines = _read(path)
    found = [place for place, one in enumerate(pipelines) if name in (None, one.name)]
    known = ", ".join(one.name for one in pipelines) or "none"
    if not found:
        raise WrongInput(f"{path}: there is no pipeline {name!r}; there are {known}")
    if len(found) > 1:
        what = "there are several pipelines" if name is None else f"two pipelines are called {name!r}"
        raise WrongInput(f"{path}: {what}; there are {known}", hint="edgeward run NAME")
    place, one = found[0], pipelines[found[0]]
    source = _located(path, text, ("pipeline", place, "source"), one.source, parts.source_of)
    sinks = tuple(
        _located(path, text, ("pipeline", place, "sinks", index), said, parts.sink_of)
        for index, said in enumerate(one.sinks)
    )
    return Declared(one, source, sinks)


def _read(path: Path) -> tuple[str, Sequence[Pipeline]]:
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongInput(f"{path}: {error}") from None
    try:
        return text, msgspec.convert(raw.get("pipeline", []), list[Pipeline])
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at `$")
        at = ("pipeline", *path_of(place.rstrip("`")))
        unknown = words.partition("unknown field `")[2].rstrip("`")
        raise WrongInput(
            f"{_place(path, text, (*at, unknown) if unknown else at)}: {_where(at)}{plain(words)}"
        ) from None


def _located(path: Path, text: str, at: tuple[str | int, ...], said: Any, find: Any) -> Any:
    try:
        return find(said)
    except Misfit as error:
        where = at if error.key is None else (*at, error.key)
        raise WrongInput(f"{_place(path, text, where)}: {error.message}", hint=error.hint) from error


def _where(at: Sequence[str | int]) -> str:
    named = ".".join(str(one) for one in at[2:] if isinstance(one, str))
    return f"{named}: " if named else ""


def _place(path: Path, text: str, at: Sequence[str | int]) -> str:
    line, column = place_of(text, at)
    return f"{path}:{line}:{column}"
