"""Frames of this machine or another, one an interval: where `edgeward top` gets what it shows."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from edgeward.kit.errors import EdgewardError
from edgeward.records.watch import Frame

_FIRST_S = 0.25
"""A person waits no longer for the first frame."""


class Frames(Protocol):
    """Gives frames until it is closed, from whatever thread; then iteration ends."""

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


class FramesHere:
    """Of this machine."""

    def __init__(self, interval_s: float, urls: Sequence[str], *, soon: bool) -> None:
        self._interval_s, self._urls, self._soon = interval_s, urls, soon
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        from edgeward.measure.watch.watcher import Watcher

        watcher = Watcher(self._urls)
        watcher.frame()
        next_s = time.monotonic() + (min(_FIRST_S, self._interval_s) if self._soon else self._interval_s)
        while not self._closed.wait(max(0.0, next_s - time.monotonic())):
            yield msgspec.convert(watcher.frame(), Frame)
            next_s = max(next_s + self._interval_s, time.monotonic())

    def close(self) -> None:
        self._closed.set()


class FramesThere:
    """Of another machine, over the user's own ssh. Raises what an Errand raises."""

    def __init__(self, host: str, interval_s: float, urls: Sequence[str], *, soon: bool) -> None:
        from edgeward.measure.carry import WATCH, Errand

        ask = {"interval_s": interval_s, "urls": list(urls), "soon": soon}
        self._errand = Errand(host, WATCH, ask)
        self._is_closed = False

    def __iter__(self) -> Iterator[Frame]:
        try:
            for line in self._errand:
                yield msgspec.convert(line, Frame)
        except EdgewardError:
            if not self._is_closed:
                raise

    def close(self) -> None:
        self._is_closed = True
        self._errand.close()
