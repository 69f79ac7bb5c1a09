"""One HTTP connection: bytes to requests and replies to bytes, with an end to everything that a client can do too long.

httptools parses; nothing here knows what is asked. A request that can be answered at once is, without a task.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable
from http import HTTPStatus
from itertools import chain
from time import gmtime, perf_counter, strftime
from typing import Any, NamedTuple, Protocol

import httptools
import msgspec

HEAD_BYTES = 1 << 16
CONNECTIONS = 512  # half of the usual limit of open files
CHECK_S = 10.0
_SILENT_CHECKS = 3
_IDLE_CHECKS = 8
_LINGER_S = 10.0
_PIPELINED = 16
_KEPT = frozenset(
    (b"content-length", b"content-type", b"content-encoding", b"inference-header-content-length", b"accept", b"expect",
     b"host", b"origin")
)  # fmt: skip
"""Headers that somebody here asks for; the others are read and forgotten."""
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus if status >= 200
}


class Answer(NamedTuple):
    """`head` is the reply's own header lines, each with its end."""

    status: int
    head: bytes
    body: bytes
    close: bool = False


class Asked:
    """One request. `body` is whole when it is answered; `gone` says that its client is not there any more."""

    __slots__ = (
        "address",
        "began",
        "body",
        "client",
        "entered",
        "gone",
        "headers",
        "held",
        "keep_alive",
        "method",
        "model",
        "status",
        "url",
    )

    def __init__(self, address: str, client: object = None) -> None:
        self.address = address
        self.client = client
        self.began = perf_counter()
        self.url = b""
        self.method = b""
        self.headers: dict[bytes, bytes] = {}
        self.body: bytes | bytearray = b""
        self.held = 0
        self.entered = False
        self.status = 0
        self.keep_alive = True
        self.gone = False
        self.model: Any = None


class _Before(NamedTuple):
    """A request that came in one piece of `size` bytes. A client that asks again and again sends the same head each
    time, which need not be read anew."""

    head: bytes
    size: int
    url: bytes
    method: bytes
    headers: dict[bytes, bytes]
    keep_alive: bool

    def asked_again(self, address: str, client: object) -> Asked:
        asked = Asked(address, client)
        asked.url, asked.method, asked.headers, asked.keep_alive = self.url, self.method, self.headers, self.keep_alive
        return asked


def _before(data: bytes, asked: Asked) -> _Before | None:
    """None where `data` is not this request and nothing else, or another of its kind could be read otherwise."""
    start = len(data) - len(asked.body)
    length = asked.headers.get(b"content-length", b"")
    if data.find(b"\r\n\r\n") + 4 != start or not length.isdigit() or int(length) != len(asked.body):
        return None
    if b"expect" in asked.headers:
        return None
    return _Before(data[:start], len(data), asked.url, asked.method, asked.headers, asked.keep_alive)


class Application(Protocol):
    """What answers. `opened` comes when the head of a request was read, and for each of those one `closed`."""

    def opened(self, asked: Asked) -> Answer | None:
        """An answer here refuses the request before its body is read."""
        ...

    def hold(self, asked: Asked, size: int) -> Answer | None:
        """Counts `size` more bytes of its body; an answer refuses it."""
        ...

    def answer(self, asked: Asked) -> "Answer | Awaitable[Answer]": ...

    def closed(self, asked: Asked) -> None: ...


class Connections:
    """All that are open, and the sweep that ends those that do not go on. `stopping` closes each after its reply."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.stopping = False
        self.open: dict[Connection, None] = {}  # by the age of their latest request
        self._silent: dict[Connection, None] = {}  # of these, who never asked
        self._sweep: asyncio.TimerHandle | None = None
        self._dated_s, self._date = 0, b""

    def __call__(self) -> "Connection":
        return Connection(self)

    def start(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(CHECK_S, self._check)

    def _check(self) -> None:
        self.start()
        for connection in tuple(self.open):
            connection.check()

    def opened(self, connection: "Connection") -> bool:
        """False where there are too many and all of them are busy; else whoever has been idle longest makes room, one
        that never asked before one that did."""
        has_room = len(self.open) < CONNECTIONS or self._make_room()
        self.open[connection] = self._silent[connection] = None
        return has_room

    def asks(self, connection: "Connection") -> None:
        self._silent.pop(connection, None)
        self.open[connection] = self.open.pop(connection, None)

    def lost(self, connection: "Connection") -> None:
        self.open.pop(connection, None)
        self._silent.pop(connection, None)

    def _make_room(self) -> bool:
        idle = next((one for one in chain(self._silent, self.open) if one.may_go), None)
        if idle is None:
            return False
        self.lost(idle)
        idle.end_if_idle()
        return True

    async def stop(self) -> None:
        """Returns when every request that was begun is answered and no connection is left."""
        self.stopping = True
        for connection in tuple(self.open):
            connection.end_if_idle()
        while self.open:
            await asyncio.sleep(0.01)
        if self._sweep is not None:
            self._sweep.cancel()

    def date(self, now_s: float) -> bytes:
        if int(now_s) != self._dated_s or not self._date:
            self._dated_s = int(now_s)
            self._date = strftime("date: %a, %d %b %Y %H:%M:%S GMT\r\n", gmtime()).encode()
        return self._date


class Connection(asyncio.Protocol):
    def __init__(self, owner: Connections) -> None:
        self._owner = owner
        self._app = owner.app
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Asked] = deque()
        self._asked: Asked | None = None  # being received
        self._current: Asked | None = None  # being answered
        self._task: asyncio.Future[Answer] | None = None
        self._head_bytes = 0
        self._before: _Before | None = None
        self._completed: list[Asked] = []  # by the bytes that came last
        self._dropping = False
        self._progress = self._pending_bytes = self._checks = 0
        self._begun = False
        self._full = False
        self._last_word = False

    # --- what the transport says

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._address = str((transport.get_extra_info("peername") or ("",))[0])
        if not self._owner.opened(self):
            self._refuse(503, f"{CONNECTIONS} clients are connected already; try again later")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._owner.lost(self)
        for asked in (self._asked, self._current, *self._waiting):
            if asked is not None and not asked.gone:
                asked.gone = True
                if asked is not self._current and asked.method:  # its head was read
                    self._app.closed(asked)
        self._asked = None
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        before = self._before
        is_free = self._is_idle and not self._dropping
        if before is not None and len(data) == before.size and is_free and data.startswith(before.head):
            self._take_again(before, data[len(before.head) :])
        else:
            self._parse(data)

    def _take_again(self, before: _Before, body: bytes) -> None:
        """What the parser would make of it."""
        self._head_bytes = self._checks = 0
        self._owner.asks(self)
        asked = before.asked_again(self._address, self)
        refusal = self._app.opened(asked) or self._app.hold(asked, len(body))
        if refusal is None:
            asked.body = body
            self._received(asked)
        else:
            self._refuse_unread(asked, refusal)
            self._transport.close()

    def _parse(self, data: bytes) -> None:
        progress, was_idle = self._progress, self._is_idle
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # we speak HTTP/1.1 on; what was sent behind it is lost
            if self._current is not None:
                self._current.keep_alive = False
        except httptools.HttpParserError:
            if not self._dropping:
                self._refuse(400, "this is no HTTP request")
            return
        finally:
            whole = self._completed[0] if len(self._completed) == 1 else None
            self._completed.clear()
        if self._progress != progress:
            self._head_bytes = self._checks = 0
            if was_idle and whole is not None:
                self._before = _before(data, whole)
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES and not self._transport.is_closing():
            self._refuse(431, f"the request's head is longer than {HEAD_BYTES} bytes")

    def eof_received(self) -> bool:
        """A client that has said its last word still gets the answers that it waits for."""
        self._last_word = True
        return self._current is not None or bool(self._waiting)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._next()

    # --- what the parser says

    def on_message_begin(self) -> None:
        self._begun = True
        self._owner.asks(self)
        self._asked = Asked(self._address, self)

    def on_url(self, url: bytes) -> None:
        if self._asked is not None:
            self._asked.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _KEPT and self._asked is not None:
            self._asked.headers[name] = value

    def on_headers_complete(self) -> None:
        self._progress += 1
        asked = self._asked
        if asked is None or self._dropping:
            return
        asked.method = self._parser.get_method()
        asked.keep_alive = self._parser.should_keep_alive()
        refusal = self._app.opened(asked)
        if refusal is not None:
            self._refuse_unread(asked, refusal)
        elif asked.headers.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._progress += 1
        asked = self._asked
        if asked is None or self._dropping:
            return
        refusal = self._app.hold(asked, len(body))
        if refusal is not None:
            self._refuse_unread(asked, refusal)
        elif not asked.body:
            asked.body = body
        else:
            if isinstance(asked.body, bytes):
                asked.body = bytearray(asked.body)
            asked.body += body

    def on_message_complete(self) -> None:
        self._progress += 1
        self._begun = False
        asked, self._asked = self._asked, None
        if self._dropping:
            self._transport.close()
        elif asked is not None:
            self._completed.append(asked)
            self._received(asked)

    def _received(self, asked: Asked) -> None:
        self._waiting.append(asked)
        if self._current is not None and len(self._waiting) >= _PIPELINED:
            self._transport.pause_reading()
        self._next()

    # --- answers

    def _next(self) -> None:
        """Answers what waits, in the order in which it came, one after the other."""
        while self._waiting and self._current is None and not self._full and not self._transport.is_closing():
            self._current = asked = self._waiting.popleft()
            answer = self._app.answer(asked)
            if isinstance(answer, Answer):
                self._reply(asked, answer)
            else:
                self._task = asyncio.ensure_future(answer)
                self._task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Future[Answer]") -> None:
        asked = self._current
        self._task = None
        if asked is None or task.cancelled():
            return
        self._reply(asked, task.result())
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._next()

    def _reply(self, asked: Asked, answer: Answer) -> None:
        self._current = None
        self._app.closed(asked)
        if asked.gone:
            return
        body = b"" if asked.method == b"HEAD" else answer.body
        close = answer.close or not asked.keep_alive or self._owner.stopping or (self._last_word and not self._waiting)
        head = b"".join(
            (_STATUS_LINES[answer.status], self._owner.date(self._loop.time()), answer.head,
             b"content-length: %d\r\n" % len(answer.body), b"connection: close\r\n\r\n" if close else b"\r\n")
        )  # fmt: skip
        if len(body) > HEAD_BYTES:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head + body)
        if close:
            self._transport.close()

    def _refuse_unread(self, asked: Asked, answer: Answer) -> None:
        """Replies at once, then reads and drops what the client still sends: closing with bytes unread would reset the
        connection, and a client that sends all before it reads would never see the reply."""
        self._dropping = True
        self._asked = None
        self._app.closed(asked)
        self._transport.write(_STATUS_LINES[answer.status] + answer.head + _closing(answer.body))
        self._loop.call_later(_LINGER_S, self._transport.close)

    def _refuse(self, status: int, sentence: str) -> None:
        """Ends the connection with a sentence, behind the replies that are still to come."""
        if self._current is None:
            body = msgspec.json.encode({"error": sentence})
            self._transport.write(_STATUS_LINES[status] + b"content-type: application/json\r\n" + _closing(body))
        self._transport.close()

    # --- the sweep

    @property
    def may_go(self) -> bool:
        """Nothing is under way, and the client has taken all of its replies."""
        return self._is_idle and not self._transport.get_write_buffer_size()

    @property
    def _is_idle(self) -> bool:
        return self._current is None and not self._waiting and self._asked is None

    def end_if_idle(self) -> None:
        if self._is_idle:
            self._transport.close()

    def check(self) -> None:
        """Ends a connection whose client has sent nothing of its request, or taken nothing of its reply, for long."""
        pending = self._transport.get_write_buffer_size()
        stuck = pending > 0 and pending == self._pending_bytes
        self._pending_bytes = pending
        half_sent = self._current is None and (self._begun or not self._progress)
        idle = self._current is None and not half_sent and not pending
        self._checks = self._checks + 1 if stuck or half_sent or idle else 0
        if self._checks < (_IDLE_CHECKS if idle else _SILENT_CHECKS):
            return
        if stuck:
            self._transport.abort()
        elif half_sent and not self._dropping:
            self._refuse(408, f"the request did not go on for {CHECK_S * _SILENT_CHECKS:g} s")
        else:
            self._transport.close()


def _closing(body: bytes) -> bytes:
    return b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body
