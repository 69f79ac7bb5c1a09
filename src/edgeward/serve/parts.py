"""A source or sink as people say it – a table in edgeward.toml, or one word – and the member and options it means."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from edgeward.kit.errors import WrongInput
from edgeward.serve import sources

if TYPE_CHECKING:
    from edgeward.serve.sinks import Sink
    from edgeward.serve.sources import Source


class _Member(Protocol):
    @property
    def options(self) -> type[Any]: ...


M = TypeVar("M", bound=_Member)


class Part(NamedTuple, Generic[M]):
    """A member with its options, checked. `name` is for people."""

    name: str
    member: M
    options: Any


class Misfit(WrongInput):
    """A part that is said wrongly; `key` is the option at fault, None where it is the part as a whole."""

    def __init__(self, message: str, key: str | None, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key = key


_SOURCE_SCHEMES = {
    "rtsp": "rtsp", "rtsps": "rtsp", "mqtt": "mqtt", "mqtts": "mqtt", "edgex+mqtt": "edgex", "edgex+mqtts": "edgex",
    "alsa": "microphone", "http": "http", "https": "http",
}  # fmt: skip
_SINK_SCHEMES = {
    "mqtt": "mqtt", "mqtts": "mqtt", "edgex+mqtt": "edgex", "edgex+mqtts": "edgex", "http": "webhook",
    "https": "webhook",
}  # fmt: skip
_SINK_SUFFIXES = {".jsonl": "jsonl", ".db": "sqlite", ".sqlite": "sqlite", ".mp4": "video", ".mkv": "video"}
_VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".avi", ".mov", ".webm", ".ts", ".m4v", ".mpg", ".mpeg", ".mjpeg"})
_OWN_QUERY = frozenset({"rtsp", "rtsps", "http", "https"})
"""Schemes whose query belongs to the address."""


def source_of(said: str | Mapping[str, Any]) -> "Part[Source]":
    """Raises Misfit for what names no source or does not fit its options, Unsupported where its package is missing."""
    use, rest = _said(said, _source_name) if isinstance(said, str) else _declared(said, "source")
    return _part(use, sources.load(use), rest, "source")


def sink_of(said: str | Mapping[str, Any]) -> "Part[Sink]":
    """The same for a sink."""
    from edgeward.serve import sinks  # who has none does not pay for them

    use, rest = _said(said, _sink_name) if isinstance(said, str) else _declared(said, "sink")
    return _part(use, sinks.load(use), rest, "sink")


def _declared(said: Mapping[str, Any], kind: str) -> tuple[str, Mapping[str, Any]]:
    from edgeward.serve import sinks

    known = (sources if kind == "source" else sinks).names()
    use = said.get("use")
    if use is None:
        raise Misfit(f'a {kind} says what it is: wanted use = "…", one of {", ".join(known)}', None)
    if use not in known:
        raise Misfit(f"there is no {kind} {use!r}; wanted one of {', '.join(known)}", "use")
    return str(use), {key: value for key, value in said.items() if key != "use"}


def _said(said: str, named: Any) -> tuple[str, tuple[str, bool]]:
    scheme = re.match(r"([a-z][a-z0-9+.-]*):", said)
    use, address = named(said, scheme.group(1) if scheme else "")
    return use, (address, bool(scheme and scheme.group(1) in _OWN_QUERY))


def _source_name(said: str, scheme: str) -> tuple[str, str]:
    if scheme in _SOURCE_SCHEMES:
        return _SOURCE_SCHEMES[scheme], said
    if scheme and scheme in sources.names():  # to list those of other distributions takes 20 ms
        return scheme, said.partition(":")[2].removeprefix("//")
    if "://" in said:
        raise Misfit(f"{said}: there is no source for {scheme!r}; there are {', '.join(sources.names())}", None)
    if said.startswith("/dev/video"):
        return "camera", said
    return ("video" if said[said.rfind(".") :].lower() in _VIDEO_SUFFIXES else "files"), said


def _sink_name(said: str, scheme: str) -> tuple[str, str]:
    from edgeward.serve import sinks

    if scheme in _SINK_SCHEMES:
        return _SINK_SCHEMES[scheme], said
    if scheme and scheme in sinks.names():
        return scheme, said.partition(":")[2].removeprefix("//")
    suffix = said[said.rfind(".") :].lower()
    if suffix in _SINK_SUFFIXES:
        return _SINK_SUFFIXES[suffix], said
    raise Misfit(f"{said}: names no sink; wanted NAME:ADDRESS with one of {', '.join(sinks.names())}", None)


def _part(use: str, member: M, rest: Mapping[str, Any] | tuple[str, bool], kind: str) -> Part[M]:
    said = isinstance(rest, tuple)
    table = _options_in(use, member, *rest) if isinstance(rest, tuple) else rest
    try:
        options = msgspec.convert(table, member.options, strict=not said)
    except msgspec.ValidationError as error:
        raise _misfit(use, kind, error, member.options, table) from error
    first = msgspec.structs.fields(member.options)[0].name
    if getattr(options, first) == "":
        raise Misfit(f"{kind} {use!r}: the {first} is empty", first)
    return Part(use, member, options)


def _options_in(use: str, member: _Member, address: str, keeps_query: bool) -> dict[str, Any]:
    """The address is the member's first option; what stands behind its "?" are others."""
    first = msgspec.structs.fields(member.options)[0].name
    if keeps_query or "?" not in address or use == "files":
        return {first: address}
    from urllib.parse import parse_qsl  # only who says options in an address pays for it

    address, _, query = address.rpartition("?")
    return {first: address, **dict(parse_qsl(query, keep_blank_values=True))}


def _misfit(use: str, kind: str, error: msgspec.ValidationError, options: type[Any], table: Any) -> Misfit:
    words = str(error)
    said, _, place = words.partition(" - at `$")
    key = (re.findall(r"\w+", place) or re.findall(r"unknown field `([^`]+)`", words) or [None])[0]
    allowed = ", ".join(field.encode_name for field in msgspec.structs.fields(options))
    where = f"{kind} {use!r}" + (f", {key}" if place.strip("`.") else "")
    return Misfit(
        f"{where}: {plain(said, table.get(key))}" + (f"; allowed are {allowed}" if "field" in said else ""), key
    )


def plain(words: str, got: Any = None) -> str:
    """msgspec's sentence in our words: what was wanted, and got where it says so itself or it is a plain value."""
    words = re.sub(r"^Expected (.*), got (.*)$", r"wanted \1, got \2", words)
    words = re.sub(r"^Expected (.*)$", r"wanted \1", words)
    words = re.sub(r"^Object contains unknown field `(.*)`$", r"there is no \1", words)
    words = re.sub(r"^Object missing required field `(.*)`$", r"\1 is missing", words)
    for name, word in _TYPES.items():
        words = words.replace(f"`{name}`", word)
    if words.startswith("wanted") and ", got " not in words and isinstance(got, str | int | float):
        words += f", got {got!r}"
    return words.replace("`", "'")


_TYPES = {
    "str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "array": "a list",
    "object": "a table", "null": "nothing",
}  # fmt: skip
