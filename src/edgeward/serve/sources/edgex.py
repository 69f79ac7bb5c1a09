"""Events of an EdgeX message bus over MQTT: images in binary readings, numbers, arrays, objects."""

from collections import deque
from collections.abc import Iterator
from threading import Event as Flag
from time import monotonic
from typing import Annotated, Any

from msgspec import Meta

from edgeward.infer import Sample
from edgeward.kit.errors import WrongInput
from edgeward.serve.arrival import broken
from edgeward.serve.edgex import Event, Reading, event_of
from edgeward.serve.mqtt_link import Link, LinkOptions
from edgeward.serve.payload import of_json, sample_of
from edgeward.serve.sources.base import Arrival, Pace, Source, Stream, Wanted
from edgeward.serve.windows import Windows

_MOST_DEVICES = 256


class EdgexOptions(LinkOptions):
    """`resources` are the readings that make a sample, in order (default: all of the event that are no text); `device`
    leaves out others; `fields` looks into an object; of a model that takes windows, one begins each `hop` events."""

    topic: str | None = None
    device: str | None = None
    resources: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    hop: Annotated[int, Meta(ge=1)] | None = None
    latest: bool = False


class Bus:
    def __init__(self, options: EdgexOptions, wanted: Wanted) -> None:
        self._options = options
        self._wanted = wanted
        self._closed = Flag()
        self._inbox: deque[Arrival] = deque()
        self._windows: dict[str, Windows] = {}
        self._link = Link(options)
        self._link.client.on_message = lambda *told: self._came(told[2].topic, told[2].payload)
        self._link.connect()
        self._link.subscribe(options.topic or self._link.address.topic or "edgex/events/device/#", 0)

    def _came(self, topic: str, data: bytes) -> None:
        now_s = monotonic()
        try:
            event = event_of(data, topic)
            if self._options.device not in (None, event.device):
                return
            arrival = self._arrival(event, f"edgex {event.device or topic}", now_s)
        except WrongInput as error:
            arrival = broken(topic, error, now_s)
        if arrival is not None:
            self._inbox.append(arrival)

    def _arrival(self, event: Event, source: str, now_s: float) -> Arrival | None:
        readings = self._chosen(event, source)
        if not readings:
            return None
        first = readings[0].value
        if len(readings) == 1 and isinstance(first, bytes):
            return Arrival(source, lambda: sample_of(first, source, self._wanted), now_s)
        if len(readings) == 1 and isinstance(first, list | dict) and not self._is_row(first):
            return Arrival(source, lambda: of_json(first, source, self._wanted, self._options.fields), now_s)
        sample = self._window_of(event.device).add(_row(readings, source), source)
        return None if sample is None else Arrival(source, _given(sample), now_s)

    def _is_row(self, value: Any) -> bool:
        """A list that is one reading of a model that takes windows of them."""
        shape = self._wanted.inputs[0].shape
        return isinstance(value, list) and self._wanted.kind == "tensor" and len(shape) == 2 and len(value) == shape[1]

    def _chosen(self, event: Event, source: str) -> list[Reading]:
        named = {one.resource: one for one in event.readings}
        if not self._options.resources:
            return [one for one in event.readings if not isinstance(one.value, str | None)]
        missing = [name for name in self._options.resources if name not in named]
        if len(missing) == len(self._options.resources):
            return []  # an event of other resources of this device
        if missing:
            raise WrongInput(f"{source}: this event has no reading {missing[0]!r}; it has {', '.join(named)}")
        return [named[name] for name in self._options.resources]

    def _window_of(self, device: str) -> Windows:
        if device not in self._windows:
            if len(self._windows) >= _MOST_DEVICES:
                raise WrongInput(
                    f"edgex {device}: readings of more than {_MOST_DEVICES} devices; choose some by device"
                )
            self._windows[device] = Windows(self._wanted, self._options.hop)
        return self._windows[device]

    def __iter__(self) -> Iterator[Arrival]:
        while not self._closed.is_set():
            while self._inbox:
                yield self._inbox.popleft()
            self._link.loop()

    def close(self) -> None:
        self._closed.set()
        self._link.client.disconnect()


def _given(sample: Sample) -> Any:
    return lambda: sample


def _row(readings: list[Reading], source: str) -> list[float]:
    row: list[float] = []
    for one in readings:
        values = one.value if isinstance(one.value, list) else [one.value]
        if not all(isinstance(value, int | float) for value in values):
            raise WrongInput(f"{source}: reading {one.resource!r} is {one.kind or 'of no kind'}, and no number")
        row += values
    return row


class Edgex:
    options = EdgexOptions

    def pace(self, options: EdgexOptions) -> Pace:
        return "newest" if options.latest else "each"

    def open(self, options: EdgexOptions, wanted: Wanted) -> Stream:
        return Bus(options, wanted)


plugin: Source = Edgex()
