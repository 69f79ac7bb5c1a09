"""Takes along what the kernel of a device tells in small files, so that it can be read elsewhere as if it were there.

This file runs on a device with nothing but Python 3.9; it imports the standard library alone.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

_LONGEST_BYTES = 1 << 20
_MOST = 4000


def main(asked: dict[str, Any]) -> None:
    """`asked` has glob patterns below the root, and which names are taken as the links that they are."""
    taken = {"files": files(Path("/"), asked["patterns"], asked["links"]), **about()}
    sys.stdout.write(json.dumps(taken) + "\n")


def about() -> dict[str, Any]:
    """What stands in no file of the kernel's."""
    return {
        "python": platform.python_version(),
        "arch": _arch(),
        "storage_free_bytes": shutil.disk_usage(os.path.expanduser("~")).free,  # noqa: PTH111 - never raises
        "hostname": platform.node(),
    }


def _arch() -> str:
    machine = platform.machine()
    return "armv7l" if sys.maxsize < 2**32 and machine in ("aarch64", "armv8l", "armv6l") else machine


def files(root: Path, patterns: list[str], links: list[str]) -> dict[str, dict[str, str]]:
    """What matches, by its path below the root: a "file" with its bytes, a "link" with where it leads, and "there"
    for folders and devices."""
    found: dict[str, dict[str, str]] = {}
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if len(found) < _MOST:
                found[str(path.relative_to(root))] = _taken(path, as_link=path.name in links)
    return found


def _taken(path: Path, *, as_link: bool) -> dict[str, str]:
    try:
        if as_link and path.is_symlink():
            return {"link": str(path.readlink())}
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                return {"file": base64.b64encode(file.read(_LONGEST_BYTES)).decode()}
    except OSError:
        pass
    return {"there": ""}


def names(root: Path, patterns: list[str]) -> dict[str, dict[str, str]]:
    """What matches, without what it holds."""
    found = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    return {str(path.relative_to(root)): {"there": ""} for path in found[:_MOST]}
