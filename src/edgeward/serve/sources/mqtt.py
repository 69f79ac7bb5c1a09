"""Messages of an MQTT topic: JSON, an image, an .npz, a recording, or a tensor's bytes."""

from collections import deque
from collections.abc import Iterator
from threading import Event
from time import monotonic

from edgeward.infer import Sample
from edgeward.kit.errors import WrongInput
from edgeward.serve.mqtt_link import Link, LinkOptions, Qos
from edgeward.serve.payload import Payload, sample_of
from edgeward.serve.sources.base import Arrival, Pace, Source, Stream, Wanted


class MqttOptions(LinkOptions):
    """`topic` may hold + and #, and stands in for the URL's path. `latest` says that only the newest message counts,
    as of a camera."""

    topic: str | None = None
    payload: Payload = "auto"
    fields: tuple[str, ...] = ()
    qos: Qos = 0
    latest: bool = False


class Messages:
    def __init__(self, options: MqttOptions, wanted: Wanted) -> None:
        self._options = options
        self._wanted = wanted
        self._closed = Event()
        self._inbox: deque[Arrival] = deque()
        self._link = Link(options)
        topic = options.topic or self._link.address.topic
        if not topic:
            raise WrongInput(f"{self._link.address.shown}: which topic? wanted {self._link.address.shown}/TOPIC")
        self._link.client.on_message = lambda *told: self._came(told[2].topic, told[2].payload)
        self._link.connect()
        self._link.subscribe(topic, options.qos)

    def _came(self, topic: str, data: bytes) -> None:
        source = f"{self._link.address.shown}/{topic}"

        def read() -> Sample:
            return sample_of(data, source, self._wanted, payload=self._options.payload, fields=self._options.fields)

        self._inbox.append(Arrival(source, read, monotonic()))

    def __iter__(self) -> Iterator[Arrival]:
        while not self._closed.is_set():
            while self._inbox:
                yield self._inbox.popleft()
            self._link.loop()

    def close(self) -> None:
        self._closed.set()
        self._link.client.disconnect()


class Mqtt:
    options = MqttOptions

    def pace(self, options: MqttOptions) -> Pace:
        return "newest" if options.latest else "each"

    def open(self, options: MqttOptions, wanted: Wanted) -> Stream:
        return Messages(options, wanted)


plugin: Source = Mqtt()
