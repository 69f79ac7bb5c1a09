"""An MQTT connection by its URL, for the sources and sinks that speak it."""

import ssl
from pathlib import Path
from time import monotonic
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from msgspec import Meta
from paho.mqtt.enums import CallbackAPIVersion

from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.records.base import Document

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_CONNECT_S = 10.0
LOOK_S = 0.25

Qos = Annotated[int, Meta(ge=0, le=2)]


class LinkOptions(Document):
    """How a broker is reached. `url` is mqtt:// or mqtts:// with host, port and topic; a password is better kept in
    `password_file`. With a `client_id` the broker keeps our place, and our messages, while we are away."""

    url: str
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    client_id: str | None = None
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = 30


class Address:
    """A broker's address, taken apart. `shown` has no password in it."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url.removeprefix("edgex+"))
            port = parts.port
            (parts.hostname or "").encode("idna")
        except ValueError as error:
            raise WrongInput(
                f"{_without_secret(url)!r} is no address ({error}); wanted mqtt://HOST[:PORT]/TOPIC"
            ) from error
        if parts.scheme not in _PORTS or not parts.hostname or "\0" in url:
            raise WrongInput(f"{_without_secret(url)!r} is no address; wanted mqtt://HOST[:PORT]/TOPIC")
        self.host = parts.hostname
        self.port = port or _PORTS[parts.scheme]
        self.topic = unquote(parts.path.removeprefix("/")) + ("#" if url.endswith("#") else "")
        self.secure = parts.scheme == "mqtts"
        self.username = unquote(parts.username) if parts.username else None
        self.password = unquote(parts.password) if parts.password else None
        self.shown = f"{parts.scheme}://{self.host}:{self.port}"


def _without_secret(url: str) -> str:
    return url.rpartition("@")[2]


class Link:
    """A client that is not connected yet. Its owner drives it: `loop`, or paho's own thread."""

    def __init__(self, options: LinkOptions) -> None:
        self.address = Address(options.url)
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=options.client_id or "", clean_session=options.client_id is None
        )
        self.client.connect_timeout = _CONNECT_S
        self._keepalive_s = options.keepalive_s
        username = options.username or self.address.username
        if username:
            self.client.username_pw_set(username, _password(options) or self.address.password)
        if self.address.secure:
            try:
                self.client.tls_set(ca_certs=options.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise WrongInput(f"{options.ca_file}: no certificates can be read from it ({error})") from error

    def connect(self) -> None:
        """Raises Unavailable where nobody answers or the broker refuses us."""
        refused: list[Any] = []
        self.client.on_connect = lambda *told: refused.append(told[3])
        try:
            self.client.connect(self.address.host, self.address.port, self._keepalive_s)
        except (OSError, ValueError) as error:
            raise Unavailable(f"{self.address.shown}: not reachable ({_plain(error)})") from error
        self.loop_until(lambda: bool(refused))
        if refused[0].is_failure:
            raise Unavailable(f"{self.address.shown}: the broker refuses us: {refused[0]}")

    def subscribe(self, topic: str, qos: int) -> None:
        """Raises Unavailable where the broker does not grant it."""
        granted: list[Any] = []
        self.client.on_subscribe = lambda *told: granted.extend(told[3])
        try:
            self.client.subscribe(topic, qos)
        except ValueError as error:
            raise WrongInput(f"{topic!r} is no topic that can be subscribed to ({error})") from error
        self.loop_until(lambda: bool(granted))
        if granted[0].is_failure:
            raise Unavailable(f"{self.address.shown}: the broker does not give us {topic!r}: {granted[0]}")

    def loop_until(self, is_done: Any) -> None:
        until = monotonic() + _CONNECT_S
        while not is_done():
            self.loop()
            if monotonic() > until:
                raise Unavailable(f"{self.address.shown}: no answer within {_CONNECT_S:g} s")

    def loop(self) -> None:
        """Takes in what comes within a quarter of a second. Raises Unavailable where the connection is gone."""
        code = self.client.loop(LOOK_S)
        if code != mqtt.MQTT_ERR_SUCCESS:
            raise Unavailable(f"{self.address.shown}: the connection is gone ({mqtt.error_string(code).rstrip('.')})")


def _password(options: LinkOptions) -> str | None:
    return Path(options.password_file).read_text().rstrip("\n") if options.password_file else None


def _plain(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
