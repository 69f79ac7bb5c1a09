"""May this bundle run on this device? One pure rule over facts that were verified before."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple


class Offered(NamedTuple):
    """A bundle whose every byte a trusted key signed."""

    name: str
    version: str
    created_at: datetime
    digest: str
    runtime: str
    targets: tuple[str, ...] = ()


class Ran(NamedTuple):
    """What was the newest here that proved itself."""

    version: str
    created_at: datetime


class Device(NamedTuple):
    """What the device knows of itself and of its past. With `only_targets` a bundle must name one of them; `failed` are
    digests that did not do here, with the reason; `newest` is None before anything ran."""

    service: str
    failed: Mapping[str, str]
    newest: Ran | None = None
    only_targets: tuple[str, ...] = ()
    allows_older: bool = False


def refusal(offered: Offered, device: Device) -> str | None:
    """Why not, in words for a person; None where it may run."""
    if offered.name != device.service:
        return f"is a bundle of {offered.name!r}; this device runs {device.service!r}"
    if offered.digest in device.failed:
        return f"failed here before: {device.failed[offered.digest]}"
    if device.only_targets and not set(device.only_targets) & set(offered.targets):
        told = ", ".join(offered.targets) or "no target"
        return f"is for {told}; this device is {', '.join(device.only_targets)}"
    if device.newest is not None and not device.allows_older and is_older(offered, device.newest):
        newest = device.newest
        return f"is older ({offered.version}) than what ran here already ({newest.version}); it may be a replay"
    return None


def is_older(offered: Offered, newest: Ran) -> bool:
    """By version, then by the moment at which it was made."""
    mine, theirs = order_of(offered.version), order_of(newest.version)
    return mine < theirs or (mine == theirs and offered.created_at < newest.created_at)


def order_of(version: str) -> tuple[tuple[int, ...], bool, str]:
    """Sorts versions as people mean them: 1.10 after 1.9, 1.0-rc1 before 1.0."""
    found = re.match(r"[vV]?(\d+(?:\.\d+)*)", version)
    numbers = tuple(int(part) for part in found[1].split(".")) if found else ()
    while numbers and numbers[-1] == 0:
        numbers = numbers[:-1]
    rest = version[found.end() :] if found else version
    return numbers, not rest.startswith("-"), rest
