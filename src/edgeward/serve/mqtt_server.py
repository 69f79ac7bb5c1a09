"""The inference service over MQTT: a request on PREFIX/MODEL/infer/ID is answered on PREFIX/MODEL/answer/ID.

What HTTP takes and says: an Open Inference Protocol request in JSON, or a picture's bytes, by the same limits and
counts. PREFIX/MODEL/VERSION/… asks for a version. A fault is {"error": a sentence, "status": what HTTP would say}.
"""

import asyncio
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec

from edgeward.kit import log
from edgeward.serve.connection import Answer, Asked
from edgeward.serve.http import Application
from edgeward.serve.mqtt_link import Link, LinkOptions

PREFIX = "edgeward"
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"BM")
_QOS = 1
_RETRY_S = (1, 30)
_BINARY = "binary_data is for HTTP and the socket; over MQTT outputs are JSON"


class MqttServer:
    """A companion of the HTTP server. Its broker is looked for again and again, in a thread of paho's own; while it is
    away there are no requests."""

    def __init__(self, app: Application, options: LinkOptions) -> None:
        """Raises WrongInput for what is no address of a broker."""
        self._app = app
        self._options = options
        self._link = Link(options)
        self._prefix = self._link.address.topic.strip("/") or PREFIX
        self._under_way = 0
        self._is_there: bool | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        client, address = self._link.client, self._link.address
        client.on_connect = self._connected
        client.on_connect_fail = lambda *_: self._tell(there=False)
        client.on_disconnect = lambda *_: self._tell(there=False)
        client.on_message = self._heard
        client.reconnect_delay_set(*_RETRY_S)
        client.connect_async(address.host, address.port, self._options.keepalive_s)
        client.loop_start()

    async def stop(self) -> None:
        """After the answers to what has come."""
        for pattern in self._patterns:
            self._link.client.unsubscribe(pattern)
        while self._under_way:
            await asyncio.sleep(0.01)
        self._link.client.on_disconnect = None
        self._link.client.disconnect()
        await self._loop.run_in_executor(None, self._link.client.loop_stop)

    @property
    def _patterns(self) -> tuple[str, ...]:
        return f"{self._prefix}/+/infer/+", f"{self._prefix}/+/+/infer/+"

    def _connected(self, *told: Any) -> None:
        if told[3].is_failure:
            self._tell(there=False)
            return
        self._link.client.subscribe([(pattern, _QOS) for pattern in self._patterns])
        self._tell(there=True)

    def _tell(self, *, there: bool) -> None:
        """Once each time that it changes."""
        if there is not self._is_there:
            self._is_there = there
            tell = log.info if there else log.warning
            tell("mqtt-broker" if there else "mqtt-broker-away", address=self._link.address.shown)

    def _heard(self, *told: Any) -> None:
        self._loop.call_soon_threadsafe(self._came, told[2].topic, told[2].payload)

    def _came(self, topic: str, data: bytes) -> None:
        *places, _, number = topic[len(self._prefix) + 1 :].split("/")
        path = "/versions/".join(quote(place, safe="") for place in places)
        asked = Asked(self._link.address.shown)
        asked.method, asked.url = b"POST", f"/v2/models/{path}/infer".encode()
        if data.startswith(_PICTURES):
            asked.headers[b"content-type"] = b"image/*"
        answer_topic = "/".join((self._prefix, *places, "answer", number))
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
        self._link.client.publish(topic, body, _QOS)
