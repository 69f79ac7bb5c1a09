"""Samples that another program of this machine puts into shared memory: its newest one."""

from collections.abc import Iterator
from threading import Event
from time import monotonic

from edgeward.infer import Sample
from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.records.base import Document, Positive
from edgeward.serve.payload import Payload, sample_of
from edgeward.serve.shared import Reader
from edgeward.serve.sources.base import Arrival, Pace, Source, Stream, Wanted

_CHECK_S = 1.0


class ShmOptions(Document):
    """`name` is a file of /dev/shm, looked at every `interval_s`."""

    name: str
    interval_s: Positive = 0.001
    payload: Payload = "raw"


class Shared:
    def __init__(self, options: ShmOptions, wanted: Wanted) -> None:
        name = options.name.removeprefix("//").strip("/")
        if "/" in name or name in ("", ".", ".."):
            raise WrongInput(f"shm://{name}: wanted the name of one file of /dev/shm")
        self._reader = Reader(name)
        self._shown = f"shm://{name}"
        self._options = options
        self._wanted = wanted
        self._closed = Event()

    def __iter__(self) -> Iterator[Arrival]:
        last, checked_s = 0, monotonic()
        while not self._closed.is_set():
            found = self._reader.read(last)
            if found is not None:
                last, captured_s, data = found
                yield self._arrival(data, captured_s)
                continue
            self._closed.wait(self._options.interval_s)
            if monotonic() - checked_s > _CHECK_S:
                checked_s = monotonic()
                if not self._reader.is_current():
                    raise Unavailable(f"{self._shown}: who wrote it has gone")

    def _arrival(self, data: bytes, captured_s: float) -> Arrival:
        def read() -> Sample:
            return sample_of(data, self._shown, self._wanted, payload=self._options.payload)

        return Arrival(self._shown, read, captured_s)

    def close(self) -> None:
        self._closed.set()


class Shm:
    options = ShmOptions

    def pace(self, options: ShmOptions) -> Pace:  # noqa: ARG002 - the promise names it
        return "newest"

    def open(self, options: ShmOptions, wanted: Wanted) -> Stream:
        return Shared(options, wanted)


plugin: Source = Shm()
