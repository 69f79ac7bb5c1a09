"""The process around the application: sockets, signals, and a stop that loses nothing."""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import uvloop

from edgeward.kit.errors import EdgewardError, WrongInput, from_os_error
from edgeward.kit.memory import give_back
from edgeward.measure.watch.notices import announced
from edgeward.serve.connection import Connections
from edgeward.serve.http import Application

_SETTLE_S = 1.0
"""After this, what only the start needed is given back: not before the first answer, which it would make late."""

STOP_S = 30
"""How long a stop waits for requests under way; systemd's own limit is 90 s."""


class Companion(Protocol):
    """Something that lives in the server's event loop from before it is ready until after its last request."""

    def start(self) -> None:
        """In the running loop. May raise an EdgewardError, which ends the server before it was ready."""
        ...

    async def stop(self) -> None:
        """Returns when what it has under way is finished."""
        ...


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
    app: Application,
    listener: socket.socket,
    on_ready: Callable[[], None],
    companions: Sequence[Companion] = (),
    on_reload: Callable[[], None] | None = None,
) -> bool:
    """Answers requests until SIGTERM or SIGINT; others on this machine find it by its notice.

    True when all that was under way was finished within `STOP_S`. SIGHUP calls `on_reload`.
    """
    with announced(url_of(listener)), contextlib.closing(uvloop.new_event_loop()) as loop:
        asyncio.set_event_loop(loop)
        stop = asyncio.Event()
        with _signals(loop, app, stop, on_reload) as forced:
            loop.run_until_complete(_run(app, listener, on_ready, companions, stop, forced))
        asyncio.set_event_loop(None)
    return not any(model.working for model in app.models)


async def _run(
    app: Application,
    listener: socket.socket,
    on_ready: Callable[[], None],
    companions: Sequence[Companion],
    stop: asyncio.Event,
    forced: asyncio.Event,
) -> None:
    connections = Connections(app)
    host, port = listener.getsockname()[:2]
    try:
        server = await asyncio.get_running_loop().create_server(connections, sock=listener, backlog=2048)
    except OSError as error:  # another process bound the same port while this one loaded its models
        raise _no_address(host, port, error) from error
    connections.start()
    for companion in companions:
        companion.start()
    on_ready()
    loop = asyncio.get_running_loop()
    settled = loop.call_later(_SETTLE_S, loop.run_in_executor, None, give_back)
    await stop.wait()
    settled.cancel()
    server.close()
    ends: list[asyncio.Future[Any]] = [asyncio.gather(_idle(app), *(one.stop() for one in (connections, *companions)))]
    ends.append(asyncio.ensure_future(forced.wait()))
    await asyncio.wait(ends, timeout=STOP_S, return_when=asyncio.FIRST_COMPLETED)
    for end in ends:
        end.cancel()
    await asyncio.gather(*ends, return_exceptions=True)


async def _idle(app: Application) -> None:
    """Returns when no model works any more, not even on an answer that nobody waits for."""
    while any(model.working for model in app.models):
        await asyncio.sleep(0.01)


@contextlib.contextmanager
def _signals(
    loop: asyncio.AbstractEventLoop, app: Application, stop: asyncio.Event, on_reload: Callable[[], None] | None
) -> Iterator[asyncio.Event]:
    """Not ready at once, then a stop; `forced` is set at a second Ctrl-C."""
    forced = asyncio.Event()

    def end(number: signal.Signals) -> None:
        if stop.is_set() and number == signal.SIGINT:
            forced.set()
        app.ready = False
        stop.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    for number in numbers:
        loop.add_signal_handler(number, end, number)
    if on_reload is not None:
        loop.add_signal_handler(signal.SIGHUP, on_reload)
        numbers.append(signal.SIGHUP)
    try:
        yield forced
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
