"""Results to an MQTT topic, as JSON; kept in bounds while the broker is away, and sent when it is back."""

from typing import Annotated

from msgspec import Meta

from edgeward.serve.mqtt_link import LinkOptions, Qos
from edgeward.serve.publisher import Publisher
from edgeward.serve.sinks.base import Outlet, Result, Sink


class MqttOptions(LinkOptions):
    """`topic` stands in for the URL's path, and the pipeline's name for {pipeline} in it. Up to `keep` messages wait
    for a broker that is away."""

    topic: str | None = None
    qos: Qos = 1
    retain: bool = False
    keep: Annotated[int, Meta(ge=1, le=100_000)] = 1000


class Topic:
    def __init__(self, options: MqttOptions, pipeline: str) -> None:
        self._publisher = Publisher(options, qos=options.qos, retain=options.retain, keep=options.keep)
        topic = (options.topic or self._publisher.topic).replace("{pipeline}", pipeline)
        self._topic = self._publisher.check(topic)

    def write(self, result: Result) -> None:
        self._publisher.publish(self._topic, result.line.rstrip(b"\n"))

    def close(self) -> None:
        self._publisher.close()


class Mqtt:
    options = MqttOptions

    def open(self, options: MqttOptions, pipeline: str) -> Outlet:
        return Topic(options, pipeline)


plugin: Sink = Mqtt()
