"""A request whose head came before is answered as the parser would have it, however its bytes arrive."""

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from itertools import product

import pytest

from edgeward.serve.connection import HEAD_BYTES, Answer, Asked, Connections


class Echo:
    """Answers with what it was asked. Refuses bodies with "no" in them while they come, and /refused by its head."""

    def __init__(self) -> None:
        self.under_way = self.held = 0

    def opened(self, asked: Asked) -> Answer | None:
        self.under_way += 1
        return Answer(503, b"", b"busy") if asked.url == b"/refused" else None

    def hold(self, asked: Asked, size: int) -> Answer | None:
        self.held += size
        asked.held += size
        return Answer(413, b"", b"long") if asked.held > 40 else None

    def answer(self, asked: Asked) -> "Answer | Awaitable[Answer]":
        told = [asked.method, asked.url, repr(sorted(asked.headers.items())).encode(), bytes(asked.body)]
        answer = Answer(200, b"x-%d: 1\r\n" % len(asked.body), b"|".join(told))
        return self._later(answer) if b"later" in asked.body else answer

    async def _later(self, answer: Answer) -> Answer:
        await asyncio.sleep(0)
        return answer

    def closed(self, asked: Asked) -> None:
        self.under_way -= 1
        self.held -= asked.held


class Wire:
    def __init__(self) -> None:
        self.sent = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_extra_info(self, _: str) -> tuple[str, int]:
        return "127.0.0.1", 1

    def get_write_buffer_size(self) -> int:
        return 0

    def resume_reading(self) -> None: ...
    def pause_reading(self) -> None: ...


def post(body: bytes, *lines: bytes, url: bytes = b"/a") -> bytes:
    return b"\r\n".join([b"POST %b HTTP/1.1" % url, b"content-length: %d" % len(body), *lines, b"", b""]) + body


CHUNKED = b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
REQUESTS = {
    "short": post(b"abc"),
    "of the same length": post(b"xyz"),
    "later": post(b"later"),
    "with a blank line in it": post(b"a\r\n\r\nb"),
    "with a request in it": post(b"POST / HTTP/1.1\r\n\r\n"),
    "empty": post(b""),
    "two at once": post(b"abc") * 2,
    "half of one": post(b"abc")[:-1],
    "too long": post(b"n" * 50),
    "too long and not whole": post(b"n" * 50)[:-5],
    "refused": post(b"abc", url=b"/refused"),
    "the last": post(b"abc", b"connection: close"),
    "chunked": CHUNKED,
    "expected": post(b"abc", b"expect: 100-continue"),
    "a page": b"GET /a HTTP/1.1\r\n\r\n",
    "behind an empty line": b"\r\n" + post(b"abc"),
    "none": b"rubbish\r\n\r\n",
}


async def sent(pieces: Sequence[bytes]) -> tuple[bytes, bool, int, int]:
    app, wire = Echo(), Wire()
    connection = Connections(app)()
    connection.connection_made(wire)
    for piece in pieces:
        if not wire.is_closed:
            connection.data_received(piece)
            for _ in range(4):  # what is answered later is
                await asyncio.sleep(0)
    connection.connection_lost(None)
    told = b"\r\n".join(line for line in wire.sent.split(b"\r\n") if not line.startswith(b"date:"))
    return told, wire.is_closed, app.under_way, app.held


def parted(pieces: Sequence[bytes]) -> Iterator[bytes]:
    """In two, so that no request comes in one piece."""
    for piece in pieces:
        yield from (piece[:5], piece[5:])


@pytest.mark.parametrize("first", REQUESTS)
def test_requests_are_answered_alike_in_whatever_pieces_they_come(first: str) -> None:
    for second, third in product(REQUESTS, REQUESTS):
        pieces = [REQUESTS[first], REQUESTS[second], REQUESTS[third]]
        whole = asyncio.run(sent(pieces))
        assert whole == asyncio.run(sent(list(parted(pieces)))), (second, third)
        assert whole[2:] == (0, 0), (second, third)


def test_what_was_answered_is_not_kept_and_what_lies_between_requests_does_not_add_up():
    async def asked() -> tuple[list[Asked], bytes]:
        connection, wire = Connections(Echo())(), Wire()
        connection.connection_made(wire)
        for _ in range(HEAD_BYTES // 2 + 10):
            connection.data_received(post(b"abc"))
            connection.data_received(b"\r\n")
        return connection._completed, wire.sent

    kept, told = asyncio.run(asked())
    assert kept == []
    assert b" 431 " not in told


def test_a_head_is_read_once_where_it_comes_again_and_again() -> None:
    async def asked() -> int:
        connection = Connections(Echo())()
        connection.connection_made(Wire())
        fed = 0

        class Parser:
            def __init__(self, real: object) -> None:
                self._real = real

            def feed_data(self, data: bytes) -> None:
                nonlocal fed
                fed += 1
                self._real.feed_data(data)

            def __getattr__(self, name: str) -> object:
                return getattr(self._real, name)

        connection._parser = Parser(connection._parser)
        for body in (b"abc", b"xyz", b"123", b"abcd", b"1234"):
            connection.data_received(post(body))
        return fed

    assert asyncio.run(asked()) == 2
