"""Messages to an MQTT broker: kept in bounds while it is away, and sent when it is back."""

from time import monotonic, sleep

import paho.mqtt.client as mqtt

from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.serve.mqtt_link import Link, LinkOptions

_END_S = 5.0


class Publisher:
    """Connects in a thread of paho's own, again and again. Up to `keep` messages wait."""

    def __init__(self, options: LinkOptions, *, qos: int, retain: bool, keep: int) -> None:
        self._link = Link(options)
        self._qos, self._retain, self._keep = qos, retain, keep
        self._taken = self._published = 0  # each counted by one thread
        self._tried = False
        client = self._link.client
        client.on_publish = self._count
        client.on_connect = client.on_connect_fail = self._has_tried
        client.max_queued_messages_set(keep)
        client.reconnect_delay_set(1, 30)
        client.connect_async(self._link.address.host, self._link.address.port, options.keepalive_s)
        client.loop_start()

    @property
    def topic(self) -> str:
        """The path of the URL."""
        return self._link.address.topic

    def check(self, topic: str) -> str:
        """The topic. Raises WrongInput for one that nothing can be published on."""
        if not topic or any(one in topic for one in "+#\0"):
            self.end()
            raise WrongInput(f"{self._link.address.shown}: wanted a topic to publish on, without + and #")
        return topic

    def publish(self, topic: str, data: bytes) -> None:
        """Raises Unavailable where it could not be taken: too many wait, or nobody is there and nothing waits."""
        sent = self._link.client.publish(topic, data, self._qos, self._retain)
        if sent.rc == mqtt.MQTT_ERR_QUEUE_SIZE:
            raise Unavailable(f"{self._link.address.shown}: {self._keep} messages wait for it already")
        if sent.rc == mqtt.MQTT_ERR_NO_CONN and self._qos == 0:
            raise Unavailable(f"{self._link.address.shown}: not connected, and qos 0 keeps nothing")
        self._taken += 1

    def _count(self, *_: object) -> None:
        self._published += 1

    def _has_tried(self, *_: object) -> None:
        self._tried = True

    def close(self) -> None:
        """Waits for the broker to have what was published, a few seconds at most; not for one that refuses us."""
        until = monotonic() + _END_S
        while self._waiting and (self._link.client.is_connected() or not self._tried) and monotonic() < until:
            sleep(0.01)
        self.end()
        if self._waiting:
            raise Unavailable(f"{self._link.address.shown}: {self._waiting} results were not taken before the end")

    @property
    def _waiting(self) -> int:
        return self._taken - self._published

    def end(self) -> None:
        self._link.client.disconnect()
        self._link.client.loop_stop()
