"""Reads what the kernel tells in small files. What is missing, broken or forbidden reads as None."""

from __future__ import annotations  # a device may have Python 3.9

import re
from pathlib import Path

ROOT = Path("/")
"""This machine; tests pass the root of a recorded tree instead."""

# The kernel refuses reads of 4 MiB and more from /proc/sys.
_LONGEST_BYTES = 1 << 20


def text(path: Path) -> str | None:
    """What stands in `path`, without the white space and NULs at its end; None when it cannot be read or is empty."""
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_BYTES)
    except (OSError, ValueError):
        return None
    return data.decode("utf-8", errors="replace").rstrip("\0 \t\r\n") or None


def number(path: Path) -> int | None:
    """The whole number in `path`, decimal or 0x…; None when there is none."""
    found = text(path)
    try:
        return int(found, 0) if found is not None else None
    except ValueError:
        return None


def words(path: Path) -> tuple[str, ...]:
    """The NUL-separated strings of a device-tree property; empty when it cannot be read."""
    found = text(path)
    return tuple(word for word in found.split("\0") if word) if found else ()


def link_name(path: Path) -> str | None:
    """The last part of what the link `path` points to, such as the driver's name."""
    try:
        return path.readlink().name or None
    except (OSError, ValueError):
        return None


def entries(folder: Path, pattern: str = "*") -> tuple[Path, ...]:
    """What `folder` holds that matches `pattern`, in natural order (cpu2 before cpu10); empty when unreadable."""
    try:
        return tuple(sorted(folder.glob(pattern), key=lambda path: (len(path.name), path.name)))
    except OSError:
        return ()


def list_count(path: Path) -> int | None:
    """How many numbers a kernel list such as "0-3,8" names."""
    try:
        spans = [part.split("-") for part in (text(path) or "").split(",")]
        count = sum(int(span[-1]) - int(span[0]) + 1 for span in spans)
    except ValueError:
        return None
    return count if 0 < count < 1 << 20 else None


def fields(path: Path) -> dict[str, str]:
    """The first value of each `name: value` line, as in /proc/cpuinfo and /proc/meminfo."""
    found: dict[str, str] = {}
    for line in (text(path) or "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def kibibytes(field: str | None) -> int:
    """The bytes of a /proc/meminfo value such as "8052508 kB"; 0 when there is none."""
    found = re.match(r"\d{1,16}", field or "")
    return int(found.group()) * 1024 if found else 0
