"""The inference service over MQTT: a request on PREFIX/MODEL/infer/ID is answered on PREFIX/MODEL/answer/ID.

What HTTP takes and says: an Open Inference Protocol request in JSON, or a picture's bytes, by the same limits and
counts. PREFIX/MODEL/VERSION/… asks for a version. A fault is {"error": a sentence, "status": what HTTP would say}.
"""

import asyncio
import contextlib
from functools import partial
from time import perf_counter
from typing import Any
from urllib.parse import quote

import msgspec
from paho.mqtt.client import MQTTMessageInfo

from edgeward.kit import log
from edgeward.kit.errors import WrongInput
from edgeward.serve.connection import Answer, Asked
from edgeward.serve.http import Application
from edgeward.serve.mqtt_link import Link, LinkOptions

PREFIX = "edgeward"
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"BM")
_QOS = 1
_RETRY_S = (1, 30)
_END_S = 5.0
_BINARY = "binary_data is for HTTP and the socket; over MQTT outputs are JSON"


class MqttServer:
    """A companion of the HTTP server. Its broker is looked for again and again, in a thread of paho's own; while it is
    away there are no requests."""

    def __init__(self, app: Application, options: LinkOptions) -> None:
        """Raises WrongInput for what is no address of a broker, or no topic to begin others with."""
        self._app = app
        self._options = options
        self._link = Link(options)
        self._prefix = self._link.address.topic.strip("/") or PREFIX
        if any(one in self._prefix for one in "+#\0"):
            raise WrongInput(f"{self._link.address.shown}: wanted a topic to begin with, without + and #")
        self._heard_bytes = self._taken_bytes = 0  # each counted by one thread
        self._under_way = 0
        self._is_there: bool | None = None
        self._sent: MQTTMessageInfo | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        client, address = self._link.client, self._link.address
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_connect_fail = lambda *_: self._tell(there=False)
        client.on_disconnect = lambda *_: self._tell(there=False)
        client.on_message = self._heard
        client.reconnect_delay_set(*_RETRY_S)
        client.connect_async(address.host, address.port, self._options.keepalive_s)
        client.loop_start()

    async def stop(self) -> None:
        """After the answers to what has come."""
        client = self._link.client
        left = asyncio.Event()

        def unsubscribed(*_: Any) -> None:
            self._loop.call_soon_threadsafe(left.set)

        client.on_unsubscribe = unsubscribed
        if client.is_connected():
            client.unsubscribe(list(self._patterns))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(left.wait(), _END_S)
        while self._under_way or self._heard_bytes > self._taken_bytes:
            await asyncio.sleep(0.01)
        until = perf_counter() + _END_S
        while self._is_sending and perf_counter() < until:
            await asyncio.sleep(0.01)
        client.on_disconnect = None
        client.disconnect()
        await self._loop.run_in_executor(None, client.loop_stop)

    @property
    def _is_sending(self) -> bool:
        sent = self._sent  # one that could not even begin has another rc
        return sent is not None and sent.rc == 0 and self._link.client.is_connected() and not sent.is_published()

    @property
    def _patterns(self) -> tuple[str, ...]:
        return f"{self._prefix}/+/infer/+", f"{self._prefix}/+/+/infer/+"

    def _connected(self, *told: Any) -> None:
        if told[3].is_failure:
            self._tell(there=False)
        else:
            self._link.client.subscribe([(pattern, _QOS) for pattern in self._patterns])

    def _subscribed(self, *told: Any) -> None:
        self._tell(there=not any(code.is_failure for code in told[3]))

    def _tell(self, *, there: bool) -> None:
        """Once each time that it changes."""
        if there is not self._is_there:
            self._is_there = there
            tell = log.info if there else log.warning
            tell("mqtt-broker" if there else "mqtt-broker-away", address=self._link.address.shown)

    def _heard(self, *told: Any) -> None:
        """In paho's thread. More than the server may hold of all requests is refused here; what the broker kept for
        whoever comes is no request."""
        topic, data = told[2].topic, told[2].payload
        if told[2].retain:
            return
        if self._heard_bytes - self._taken_bytes + len(data) > self._app.limits.held_bytes:
            body = {"error": "the server holds too many requests already; try again in 1 s", "status": 503}
            self._link.client.publish(self._places(topic)[1], msgspec.json.encode(body))
            return
        self._heard_bytes += len(data) + 1
        self._loop.call_soon_threadsafe(self._came, topic, data, perf_counter())

    def _places(self, topic: str) -> tuple[str, str]:
        """Where HTTP has the model that a request's topic names, and the topic of the answer."""
        *places, _, number = topic[len(self._prefix) + 1 :].split("/")
        path = "/versions/".join(quote(place, safe="") for place in places)
        return f"/v2/models/{path}/infer", "/".join((self._prefix, *places, "answer", number))

    def _came(self, topic: str, data: bytes, at_s: float) -> None:
        self._taken_bytes += len(data) + 1
        path, answer_topic = self._places(topic)
        asked = Asked(self._link.address.shown)
        asked.began, asked.method, asked.url = at_s, b"POST", path.encode()
        if data.startswith(_PICTURES):
            asked.headers[b"content-type"] = b"image/*"
        self._under_way += 1
        refusal = self._app.opened(asked) or self._app.hold(asked, len(data))
        if refusal is not None:
            self._answered(asked, answer_topic, refusal)
            return
        asked.body = data
        answer = self._app.answer(asked)
        if isinstance(answer, Answer):
            self._answered(asked, answer_topic, answer)
        else:
            asyncio.ensure_future(answer).add_done_callback(partial(self._done, asked, answer_topic))

    def _done(self, asked: Asked, topic: str, answer: asyncio.Future[Answer]) -> None:
        if not answer.cancelled():
            self._answered(asked, topic, answer.result())

    def _answered(self, asked: Asked, topic: str, answer: Answer) -> None:
        self._under_way -= 1
        self._app.closed(asked)
        body = answer.body
        if answer.status != 200:
            body = msgspec.json.encode({**msgspec.json.decode(body), "status": answer.status})
        elif b"octet-stream" in answer.head:
            body = msgspec.json.encode({"error": _BINARY, "status": 400})
        self._sent = self._link.client.publish(topic, body)
