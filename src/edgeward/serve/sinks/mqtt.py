"""Results to an MQTT topic, as JSON; kept in bounds while the broker is away, and sent when it is back."""

from time import monotonic, sleep
from typing import Annotated

import paho.mqtt.client as mqtt
from msgspec import Meta

from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.serve.mqtt_link import Link, LinkOptions, Qos
from edgeward.serve.sinks.base import Outlet, Result, Sink

_END_S = 5.0


class MqttOptions(LinkOptions):
    """`topic` stands in for the URL's path, and the pipeline's name for {pipeline} in it. Up to `keep` messages wait
    for a broker that is away."""

    topic: str | None = None
    qos: Qos = 1
    retain: bool = False
    keep: Annotated[int, Meta(ge=1, le=100_000)] = 1000


class Publisher:
    """Connects in a thread of paho's own, again and again."""

    def __init__(self, options: MqttOptions, pipeline: str) -> None:
        self._options = options
        self._link = Link(options)
        topic = (options.topic or self._link.address.topic).replace("{pipeline}", pipeline)
        if not topic or any(one in topic for one in "+#\0"):
            raise WrongInput(f"{self._link.address.shown}: wanted a topic to publish on, without + and #")
        self._topic = topic
        self._taken = self._published = 0  # each counted by one thread
        client = self._link.client
        client.on_publish = self._count
        client.max_queued_messages_set(options.keep)
        client.reconnect_delay_set(1, 30)
        client.connect_async(self._link.address.host, self._link.address.port, options.keepalive_s)
        client.loop_start()

    def write(self, result: Result) -> None:
        sent = self._link.client.publish(
            self._topic, result.line.rstrip(b"\n"), self._options.qos, self._options.retain
        )
        if sent.rc == mqtt.MQTT_ERR_QUEUE_SIZE:
            raise Unavailable(f"{self._link.address.shown}: {self._options.keep} messages wait for it already")
        if sent.rc == mqtt.MQTT_ERR_NO_CONN and self._options.qos == 0:
            raise Unavailable(f"{self._link.address.shown}: not connected, and qos 0 keeps nothing")
        self._taken += 1

    def _count(self, *_: object) -> None:
        self._published += 1

    @property
    def _waiting(self) -> int:
        return self._taken - self._published

    def close(self) -> None:
        """Waits for the broker to have what was published, a few seconds at most."""
        client, until = self._link.client, monotonic() + _END_S
        while self._waiting and client.is_connected() and monotonic() < until:
            sleep(0.01)
        client.disconnect()
        client.loop_stop()
        if self._waiting:
            raise Unavailable(f"{self._link.address.shown}: {self._waiting} results were not taken before the end")


class Mqtt:
    options = MqttOptions

    def open(self, options: MqttOptions, pipeline: str) -> Outlet:
        return Publisher(options, pipeline)


plugin: Sink = Mqtt()
