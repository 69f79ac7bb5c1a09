"""Clients that lie, stop half-way or send rubbish: each is answered or let go, and the others do not notice."""

import contextlib
import json
import re
import socket
from collections.abc import Iterator

import pytest
from serve_process import Answer, RunningServer, receive

GOOD = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}).encode()
HEAD = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: here\r\n"
MIB = 1 << 20


@pytest.fixture(autouse=True)
def the_server_still_answers(server: RunningServer) -> Iterator[None]:
    """After each of these tests a good request gets its answer."""
    yield
    assert server.ask("/v2/models/echo/infer", GOOD).status == 200


def request(body: bytes, *headers: bytes) -> bytes:
    return HEAD + b"".join(header + b"\r\n" for header in headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("data", "status", "told"),
    [
        (request(b"garbage"), 400, "the request: JSON is malformed"),
        (request(b""), 400, "the request: input data was truncated"),
        (request(GOOD, b"Inference-Header-Content-Length: 1000000"), 400, "the header says 1000000 bytes of JSON"),
        (request(GOOD, b"Inference-Header-Content-Length: 5"), 400, "the request: input data was truncated"),
        (
            request(GOOD + b"rest", b"Inference-Header-Content-Length: %d" % len(GOOD)),
            400,
            "the body is 4 bytes longer",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400, "this is no HTTP request"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "this is no HTTP request"),
        (HEAD + b"Content-Length: -3\r\n\r\n", 400, "this is no HTTP request"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "this is no HTTP request"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "this is no HTTP request"),
        (b"GET /v2/models/%00%ff HTTP/1.1\r\nHost: here\r\n\r\n", 404, "there is no model"),
        (b"GET //v2 HTTP/1.1\r\nHost: here\r\n\r\n", 404, "there is nothing at"),
        (
            HEAD + b"Content-Length: 99999999999\r\n\r\n",
            413,
            "the body has 99999999999 bytes; this server takes 1048576",
        ),
    ],
)
def test_rubbish_gets_a_sentence(server: RunningServer, data: bytes, status: int, told: str) -> None:
    answer = server.say(data)
    assert (answer.status, answer.error[: len(told)]) == (status, told)
    assert answer.headers["content-type"] == "application/json"


def test_a_good_request_in_pieces_of_one_byte_is_answered(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(GOOD):
            connection.sendall(bytes([byte]))
        assert receive(connection).status == 200


def test_a_good_request_in_chunks_is_answered(server: RunningServer) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (GOOD[:9], GOOD[9:]))
    assert server.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n").status == 200


def test_two_requests_sent_at_once_are_answered_in_order(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.sendall(request(GOOD) + request(b"garbage", b"Connection: close"))
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200", b"400"]


def test_a_client_that_waits_half_way_holds_up_nobody(server: RunningServer) -> None:
    with server.connect() as slow, server.connect() as silent:
        slow.sendall(request(GOOD)[:-10])
        assert server.ask("/v2/health/live").status == 200
        assert server.ask("/v2/models/echo/infer", GOOD).status == 200
        slow.sendall(request(GOOD)[-10:])
        assert receive(slow).status == 200
        assert silent.fileno() > 0


def test_a_client_that_leaves_half_way_is_forgotten(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.sendall(request(GOOD)[:-10])
        assert b'edgeward_in_flight{model="echo",version="1.0.0"} 1.0' in server.ask("/metrics").body
    while b'edgeward_in_flight{model="echo",version="1.0.0"} 0.0' not in server.ask("/metrics").body:
        pass


def test_a_client_that_asks_before_it_sends_is_told_no_at_once(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
        assert receive(connection).status == 413


def send_all(connection: socket.socket, data: bytes, times: int) -> Answer | None:
    """Sends on and on; the answer, or None where the server closed before it could be read."""
    try:
        for _ in range(times):
            connection.sendall(data)
        return receive(connection)
    except (ConnectionError, BrokenPipeError):
        return None


def test_100_megabytes_with_their_length_are_refused_and_not_kept(fresh_server: RunningServer) -> None:
    fresh_server.ask("/v2/models/echo/infer", GOOD)
    before = fresh_server.memory_bytes()
    with fresh_server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (100 * MIB))
        answer = send_all(connection, b"\xaa" * MIB, 100)
    assert answer is not None
    assert answer.status == 413
    assert fresh_server.memory_bytes() - before < 8 * MIB


def test_100_megabytes_in_chunks_are_refused_and_not_kept(fresh_server: RunningServer) -> None:
    fresh_server.ask("/v2/models/echo/infer", GOOD)
    before = fresh_server.memory_bytes()
    with fresh_server.connect() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        answer = send_all(connection, b"%x\r\n" % MIB + b"\xaa" * MIB + b"\r\n", 100)
    assert answer is not None
    assert (answer.status, answer.error.partition(";")[0]) == (413, "the body has more than 1048576 bytes")
    assert fresh_server.memory_bytes() - before < 8 * MIB


@pytest.mark.parametrize(
    ("start", "data"),
    [
        (b"", b"\xaa" * MIB),
        (b"GET / HTTP/1.1\r\nX: ", b"a" * MIB),
        (b"GET / HTTP/1.1\r\n", b"Name: value\r\n" * (MIB // 13)),
        (b"GET /", b"a" * MIB),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * MIB),
    ],
    ids=["no-http", "one-header", "many-headers", "path", "chunk-extension"],
)
def test_100_megabytes_of_what_is_no_body_do_not_grow_the_server(
    fresh_server: RunningServer, start: bytes, data: bytes
) -> None:
    fresh_server.ask("/v2/models/echo/infer", GOOD)
    before = fresh_server.memory_bytes()
    with fresh_server.connect() as connection:
        connection.sendall(start)
        answer = send_all(connection, data, 100)
    assert answer is None or answer.status in (400, 431)
    assert fresh_server.memory_bytes() - before < 8 * MIB
    assert fresh_server.ask("/v2/models/echo/infer", GOOD).status == 200


def test_json_that_would_become_many_objects_is_refused_as_text(fresh_server: RunningServer) -> None:
    fresh_server.ask("/v2/models/echo/infer", GOOD)
    before = fresh_server.memory_bytes()
    body = GOOD.replace(b"[1, 2, 3]", b"[" + b"1," * 500_000 + b"1]")
    answer = fresh_server.ask("/v2/models/echo/infer", body)
    assert answer.status == 400
    assert answer.error == "input 'x' has 500001 values in data, its shape [1, 3] has 3"
    assert fresh_server.memory_bytes() - before < 8 * MIB


@pytest.mark.slow
def test_clients_that_never_go_on_are_let_go(server: RunningServer) -> None:
    stops = [b"", b"POST /v2/mod", HEAD, request(GOOD)[:-10]]
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in stops]
        for connection, said in zip(connections, stops, strict=True):
            connection.sendall(said)
        answers = [receive(connection) for connection in connections]
    assert {(answer.status, answer.error) for answer in answers} == {(408, "the request did not go on for 30 s")}


@pytest.mark.slow
def test_a_client_that_never_reads_its_replies_is_let_go(server: RunningServer) -> None:
    size = 300_000
    head = b'{"inputs":[{"name":"x","shape":[1,%d],"datatype":"INT64","parameters":{"binary_data_size":%d}}]}'
    body = head % (size // 8, size) + b"\xff" * size
    asked = request(body, b"Inference-Header-Content-Length: %d" % (len(body) - size)).replace(b"/echo/", b"/long/")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(server.address)
        connection.settimeout(120)
        with pytest.raises(ConnectionError):
            connection.sendall(asked * 100)


def test_connections_left_idle_make_room_for_newcomers_and_for_no_busy_one(server: RunningServer) -> None:
    good = request(GOOD)
    with contextlib.ExitStack() as stack:
        older = stack.enter_context(server.connect())
        half = stack.enter_context(server.connect())
        older.sendall(good)
        assert receive(older).status == 200
        half.sendall(good[:20])
        idle = [stack.enter_context(server.connect()) for _ in range(700)]
        assert [server.say(good).status for _ in range(20)] == [200] * 20
        older.sendall(good)
        half.sendall(good[20:])
        assert (receive(older).status, receive(half).status) == (200, 200)
        assert idle[0].recv(1) == b""
        idle[-1].sendall(good)
        assert receive(idle[-1]).status == 200


def test_where_all_connections_are_busy_a_newcomer_is_told_so(server: RunningServer) -> None:
    begun = HEAD + b"Content-Length: 9\r\n\r\n"
    asks = b"GET /v2/models/echo/stats HTTP/1.1\r\nHost: here\r\n\r\n"
    with contextlib.ExitStack() as stack:
        older = stack.enter_context(server.connect())
        for _ in range(511):
            stack.enter_context(server.connect()).sendall(begun)
        in_flight = 0
        while in_flight < 511:
            older.sendall(asks)
            in_flight = receive(older, "GET").json["model_stats"][0]["in_flight"]
        older.sendall(asks + begun)  # its own is begun when it is answered
        receive(older, "GET")
        answer = receive(stack.enter_context(server.connect()))
        assert (answer.status, answer.error) == (503, "512 clients are connected already; try again later")
