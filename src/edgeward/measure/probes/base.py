"""What a probe promises: to read its sensors from below a root, and to say of each one that fails why."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from edgeward.measure import sysfs
from edgeward.records.reading import Reading

__all__ = ["Probe", "Reading", "What", "as_number", "measured", "said", "text_or_fault", "unreadable"]

_LONGEST_BYTES = 1 << 20


class Probe(Protocol):
    """Sensors of one kind. A machine that has none gives nothing; a sensor that cannot be read gives its fault."""

    def read(self, root: Path) -> Iterable[Reading]:
        """Every sensor below `root`, which is / on a living machine and a folder where a tree was recorded."""
        ...


class What(NamedTuple):
    """The sensor's own name, what it measures, and in what."""

    name: str
    quantity: str
    unit: str = ""


def text_or_fault(path: Path) -> tuple[str, str | None]:
    """What stands in `path`, and None; or nothing, and why it is not readable. Never raises."""
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return "", f"not readable: {reason[:1].lower()}{reason[1:]}"
    text = data.decode("utf-8", errors="replace").strip("\0 \t\r\n")
    return (text, None) if text else ("", "not readable: it is empty")


def measured(
    path: Path, what: What, *, scale: float = 1.0, least: float = 0.0, most: float = math.inf, base: int = 10
) -> Reading:
    """The number in `path` times `scale`; a fault where it is none, or lies outside of `least` to `most`."""
    text, fault = text_or_fault(path)
    return unreadable(path, what, fault) if fault else as_number(text, path, what, scale, least, most, base)


def as_number(
    text: str, path: Path | str, what: What, scale: float = 1.0, least: float = 0.0, most: float = math.inf,
    base: int = 10,
) -> Reading:  # fmt: skip
    """The number that `text` is, as `measured` gives it."""
    try:
        value = (int(text, base) if base != 10 else float(text)) * scale
    except ValueError:
        return unreadable(path, what, f"not readable: {text[:40]!r} is no number")
    if not math.isfinite(value) or not least <= value <= most:
        return unreadable(path, what, f"not readable: {value:g} {what.unit} is not believable".rstrip())
    return Reading(name=what.name, quantity=what.quantity, unit=what.unit, value=round(value, 9), path=str(path))


def said(path: Path, what: What) -> Reading:
    """The word in `path`."""
    text, fault = text_or_fault(path)
    if fault:
        return unreadable(path, what, fault)
    return Reading(name=what.name, quantity=what.quantity, unit=what.unit, value=text, path=str(path))


def unreadable(path: Path | str, what: What, fault: str) -> Reading:
    return Reading(
        name=what.name, quantity=what.quantity, unit=what.unit, value=None, path=str(path), fault=fault
    )  # fmt: skip


def labelled(folder: Path, sensor: str, fallback: str) -> str:
    """What the driver calls a sensor such as "in1" (its `_label`), else `fallback`."""
    return sysfs.text(folder / f"{sensor}_label") or fallback


def existing(folder: Path, pattern: str) -> Iterator[Path]:
    """What matches and is a file, in natural order."""
    yield from (path for path in sysfs.entries(folder, pattern) if not path.is_dir())
