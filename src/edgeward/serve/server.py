"""The process around the application: a socket, uvicorn with limits of our own, and a stop that loses nothing."""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, cast

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from edgeward.kit.errors import EdgewardError, WrongInput, from_os_error
from edgeward.measure.watch.notices import announced
from edgeward.serve.http import Application
from edgeward.serve.local import LocalServer

STOP_S = 30
"""How long a stop waits for requests under way; systemd's own limit is 90 s."""

_HEAD_BYTES = 1 << 16
_CONNECTIONS = 512  # half of the usual limit of open files
_CHECK_S = 10.0
_SILENT_CHECKS = 3


class _Connection(HttpToolsProtocol):
    """uvicorn's connection, with what a server on an open network needs besides: an end to head lines, to clients
    that stop half-way, and to the number of connections; and faults told as the protocol tells them."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._progress = self._seen_progress = 0
        self._head_bytes = 0
        self._receiving = True
        self._checks = self._pending_bytes = 0
        self._watch = self.loop.call_later(_CHECK_S, self._check)
        if len(self.connections) > _CONNECTIONS:
            self._refuse(503, f"{_CONNECTIONS} clients are connected already; try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._progress
        super().data_received(data)
        if self._progress != before:
            self._head_bytes = self._checks = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > _HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, f"the request's head is longer than {_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        self._receiving = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._progress += 1
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progress += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progress += 1
        self._receiving = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words, which we replace
        self._refuse(400, "this is no HTTP request")

    def _refuse(self, status: int, sentence: str) -> None:
        body = msgspec.json.encode({"error": sentence})
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

    def _check(self) -> None:
        """Ends a connection whose client has sent nothing of its request, or taken nothing of its reply, for long."""
        self._watch = self.loop.call_later(_CHECK_S, self._check)
        pending = self.transport.get_write_buffer_size()
        stuck = pending > 0 and pending == self._pending_bytes
        self._pending_bytes = pending
        half_sent = self._receiving and not self.flow.read_paused
        self._checks = self._checks + 1 if stuck or half_sent else 0
        if self._checks < _SILENT_CHECKS:
            return
        if stuck:
            self.transport.abort()
        else:
            self._refuse(408, f"the request did not go on for {_CHECK_S * _SILENT_CHECKS:g} s")


class _Server(uvicorn.Server):
    """Stops on SIGTERM and SIGINT: not ready at once, then what is under way is finished, then a normal return."""

    def __init__(
        self, config: uvicorn.Config, app: Application, on_ready: Callable[[], None], local: LocalServer | None
    ) -> None:
        super().__init__(config)
        self._application = app
        self._local = local
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        listener = cast(list[socket.socket], sockets)[0]
        host, port = listener.getsockname()[:2]
        try:
            await super().startup(sockets=sockets)
        except OSError as error:  # another process bound the same port while this one loaded its models
            raise _no_address(host, port, error) from error
        if self._local is not None:
            self._local.start()
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._local is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._local.stop()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._application.ready = False
        super().handle_exit(sig, frame)


def bind(host: str, port: int) -> socket.socket:
    """A socket with this address, not listening yet. Raises Failed or WrongInput that says why it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise WrongInput(
            f"there is no host {host!r}", hint="--host 127.0.0.1, or 0.0.0.0 for every interface"
        ) from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _no_address(host, port, error) from error
    return listener


def _no_address(host: str, port: int, error: OSError) -> EdgewardError:
    match error.errno:
        case errno.EADDRNOTAVAIL:
            return WrongInput(f"this machine has no address {host}", hint="--host 0.0.0.0 serves on every address")
        case errno.EACCES:
            return WrongInput(f"{host}:{port}: this user may not serve on so low a port", hint="--port 8000")
        case _:
            error.filename = f"{host}:{port}"
            return from_os_error(error)


def url_of(listener: socket.socket) -> str:
    """Where clients find it: http://127.0.0.1:8000"""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    app: Application, listener: socket.socket, on_ready: Callable[[], None], local: LocalServer | None = None
) -> bool:
    """Answers requests until SIGTERM or SIGINT; others on this machine find it by its notice.

    True when all that was under way was finished within `STOP_S`.
    """
    config = uvicorn.Config(
        app, interface="asgi3", loop="uvloop", http=_Connection, ws="none", lifespan="off",
        log_config=None, log_level="critical", access_log=False, proxy_headers=False,
        server_header=False, timeout_keep_alive=75, timeout_graceful_shutdown=STOP_S,
    )  # fmt: skip
    with announced(url_of(listener)):
        _Server(config, app, on_ready, local).run(sockets=[listener])
    return not any(model.working for model in app.models)
