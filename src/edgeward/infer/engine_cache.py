"""Engines that took minutes to build, kept for the next start: each belongs to one model, one GPU and one version."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

_MAGIC = b"edgeward-engine\n"


class Builder(msgspec.Struct, frozen=True):
    """What an engine was built by and for: on anything else it must not be run."""

    runtime: str
    version: str
    device: str
    capability: str
    model: str


def folder(runtime: str, environment: Mapping[str, str] = os.environ) -> Path:
    """This user's engines of `runtime`: $XDG_CACHE_HOME/edgeward/engines/RUNTIME, made where it does not stand."""
    place = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeward" / "engines" / runtime
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return place


def name_of(builder: Builder) -> str:
    """The file's name: another model, GPU or version has another one."""
    return hashlib.sha256(msgspec.json.encode(builder)).hexdigest()[:40] + ".engine"


def sealed(builder: Builder, engine: bytes) -> bytes:
    """The file: who built it, the engine's digest, the engine."""
    digest = hashlib.sha256(engine).hexdigest().encode()
    return b"".join([_MAGIC, msgspec.json.encode(builder), b"\n", digest, b"\n", engine])


def opened(file: bytes, wanted: Builder) -> bytes | None:
    """The engine; None where the file is cut, changed, or of another builder: then it is built again."""
    if not file.startswith(_MAGIC):
        return None
    head, _, rest = file.removeprefix(_MAGIC).partition(b"\n")
    digest, _, engine = rest.partition(b"\n")
    if head != msgspec.json.encode(wanted) or hashlib.sha256(engine).hexdigest().encode() != digest:
        return None
    return engine
