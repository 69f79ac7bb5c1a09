"""Record ↔ JSON and TOML, canonical bytes, and the digest of a record."""

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgeward.kit.errors import WrongInput

T = TypeVar("T")


def to_json(record: Any) -> bytes:
    """Compact JSON with fields in declared order."""
    return msgspec.json.encode(record)


def to_pretty_json(record: Any) -> bytes:
    """Indented JSON with a final newline, for people and for files that git keeps."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def to_canonical_json(record: Any) -> bytes:
    """The same bytes for equal records, wherever they are made: sorted keys, no spaces."""
    return msgspec.json.encode(record, order="sorted")


def from_json(data: bytes, kind: type[T], where: str) -> T:
    """A record from JSON. Raises WrongInput that names `where` and the path of the fault."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WrongInput(f"{where}: {_lower_first(str(error))}") from error


def from_toml(path: Path, kind: type[T]) -> T:
    """A document from a TOML file that a person wrote; an unknown field anywhere in it is refused.

    Raises WrongInput that names the file and the path of the fault.
    """
    import tomllib  # only who reads TOML pays for it

    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        document = msgspec.convert(raw, type=kind)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise WrongInput(f"{path}: {_lower_first(str(error))}") from error
    stray = _stray_field(raw, msgspec.to_builtins(document), "$")
    if stray is not None:
        raise WrongInput(f"{path}: unknown field {stray}")
    return document


def digest_of(data: bytes) -> str:
    """The name of these bytes: sha256:HEX."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of_file(path: Path) -> str:
    """The same of a file's bytes, however many they are."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _stray_field(written: Any, understood: Any, at: str) -> str | None:
    """The path of the first key that decoding dropped (records, unlike documents, drop in silence)."""
    if isinstance(written, dict) and isinstance(understood, dict):
        for key, value in written.items():
            if key not in understood:
                return f"{at}.{key}"
            found = _stray_field(value, understood[key], f"{at}.{key}")
            if found is not None:
                return found
    if isinstance(written, list) and isinstance(understood, list | tuple):
        for index, (one, other) in enumerate(zip(written, understood, strict=False)):
            found = _stray_field(one, other, f"{at}[{index}]")
            if found is not None:
                return found
    return None


def _lower_first(text: str) -> str:
    """A library's sentence inside ours; a name such as JSON or UTF-8 keeps its capitals."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
