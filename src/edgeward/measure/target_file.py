"""A machine's profile as a TOML file that a person can read, change and give to `optimize --target`."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import msgspec

from edgeward.kit.errors import Unsupported
from edgeward.measure.naming import slug_of
from edgeward.records.target import Accelerator, Arch, Machine, RuntimeFound, Target


def target_of(machine: Machine, name: str) -> Target:
    """The profile of machines like this one. Raises Unsupported for a processor family that no profile can name."""
    known = get_args(Arch)
    if machine.arch not in known:
        raise Unsupported(f"this machine is {machine.arch}; a target is one of {', '.join(known)}")
    kinds = dict.fromkeys(slug_of(found.kind) for found in machine.accelerators)
    return Target(
        name=name,
        arch=msgspec.convert(machine.arch, Arch),
        memory_bytes=machine.memory_bytes,
        storage_bytes=machine.storage_free_bytes,
        runtimes={found.name: _versions(found) for found in machine.runtimes if found.works},
        cpu=machine.cpu,
        cpu_features=machine.cpu_features,
        accelerators=tuple(Accelerator(kind=kind) for kind in kinds),
    )


def to_toml(target: Target) -> bytes:
    """The document that `codec.from_toml` reads back as the same Target. What is None or empty is left out."""
    fields = {name: value for name, value in msgspec.to_builtins(target).items() if value not in (None, "", [], {})}
    lines = ["# What `edgeward probe --save` found; give it to `edgeward optimize --target FILE`."]
    lines += _pairs({name: value for name, value in fields.items() if name not in ("runtimes", "accelerators")})
    lines += ["", "[runtimes]", *_pairs(fields.get("runtimes", {}))]
    for accelerator in fields.get("accelerators", []):
        lines += ["", "[[accelerators]]", *_pairs({name: value for name, value in accelerator.items() if value})]
    return ("\n".join(lines) + "\n").encode()


def _pairs(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        yield f"{_key(name)} = {_value(value)}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: object) -> str:
    """A JSON string, number or list of strings, which is a TOML one too once DEL is escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _versions(found: RuntimeFound) -> str:
    """From the version that worked here up to the next major one; any, where it has no such number."""
    parts = (found.version or "").split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return ">=0"
    return f">={parts[0]}.{parts[1]},<{int(parts[0]) + 1}"
