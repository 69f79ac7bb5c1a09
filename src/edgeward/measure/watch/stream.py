"""Frames as JSON lines on standard output, until standard input ends: what runs on a device for `edgeward top HOST`."""

from __future__ import annotations

import json
import select
import sys
import time
from typing import Any

from edgeward.measure.watch.watcher import Watcher

_INPUT = 0
_FIRST_S = 0.25


def main(asked: dict[str, Any]) -> None:
    """`asked` has the interval in seconds, the URLs to look at (none: every service that is found), and whether the
    first frame may come early, over a shorter time."""
    watcher = Watcher(asked["urls"])
    watcher.frame()
    step_s = asked["interval_s"]
    next_s = time.monotonic() + (min(_FIRST_S, step_s) if asked["soon"] else step_s)
    while not _ended(next_s - time.monotonic()):
        sys.stdout.write(json.dumps(watcher.frame(), separators=(",", ":")) + "\n")
        sys.stdout.flush()
        next_s = max(next_s + step_s, time.monotonic())


def _ended(wait_s: float) -> bool:
    """Waits; whether the other side has gone. Nothing is sent to us: what can be read is the end."""
    return bool(select.select([_INPUT], [], [], max(0.0, wait_s))[0])
