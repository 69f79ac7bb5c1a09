"""Recorded samples as a live source gives them: so many a second, whether or not anybody takes them.

It needs no device and stands in for one in the tests of other rooms.
"""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from threading import Event
from time import monotonic

from edgeward.records.base import Document, Positive
from edgeward.serve import recorded
from edgeward.serve.sources.base import Arrival, Pace, Source, Stream, Wanted


class ReplayOptions(Document):
    """`path` is what `files` reads; `repeat` begins again at its end. `each` says that no sample is worth less than
    the newest one, as of messages."""

    path: str
    rate_hz: Positive = 10.0
    repeat: bool = False
    each: bool = False


class Replayed:
    def __init__(self, options: ReplayOptions, wanted: Wanted) -> None:
        self._arrivals = list(recorded.arrivals(Path(options.path), wanted))
        self._options = options
        self._closed = Event()

    def __iter__(self) -> Iterator[Arrival]:
        due_s = monotonic()
        for arrival in cycle(self._arrivals) if self._options.repeat else self._arrivals:
            if self._closed.wait(max(0.0, due_s - monotonic())):
                return
            yield arrival._replace(captured_s=monotonic())
            due_s += 1 / self._options.rate_hz

    def close(self) -> None:
        self._closed.set()


class Replay:
    options = ReplayOptions

    def pace(self, options: ReplayOptions) -> Pace:
        return "each" if options.each else "newest"

    def open(self, options: ReplayOptions, wanted: Wanted) -> Stream:
        return Replayed(options, wanted)


plugin: Source = Replay()
