"""Requests that nobody would write, over a real socket: each gets one clear answer, and nothing is left behind."""

import json
import os
import re
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serve_process import RunningServer

TENSOR = {"name": "x", "shape": [1, 3], "datatype": "FP32"}
GOOD = json.dumps({"inputs": [{**TENSOR, "data": [1, 2, 3]}]}).encode()
BINARY = json.dumps({"inputs": [{**TENSOR, "parameters": {"binary_data_size": 12}}]}).encode()
FUZZED = settings(
    max_examples=200, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

tokens = st.sampled_from(
    [b"POST", b"GET", b"BREW", b" ", b"\r\n", b"\r", b"\n", b":", b"HTTP/1.1", b"HTTP/1.0", b"\x00", b"/v2/models/echo",
     b"Content-Length", b"Transfer-Encoding", b"chunked", b"0", b"-1", b"99999999999999999999", b"Host", b"Expect",
     b"100-continue", b"Upgrade", b"h2c", b"Connection", b"close", b"Content-Type", b"image/jpeg", b"\xff\xd8\xff",
     b"Inference-Header-Content-Length", b"?", b"%", b"%2f", b"..", b"\xff", GOOD, BINARY]
)  # fmt: skip
rubbish = st.lists(st.one_of(tokens, st.binary(max_size=8)), max_size=30).map(b"".join)
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), st.just("x"),
              st.sampled_from(["FP32", "BYTES", "UINT8", 3, 1, [1, 3], 12])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "binary_data_size",
                             "classification", "id", "timeout", "binary_data_output"]), inner, max_size=5),
    ),
    max_leaves=15,
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_left_behind(server: RunningServer) -> Iterator[None]:
    def files() -> int:
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))

    assert server.ask("/v2/models/echo/infer", GOOD).status == 200
    before, memory = files(), server.memory_bytes()
    yield
    assert server.ask("/v2/models/echo/infer", GOOD).status == 200
    while files() > before:
        pass
    assert b'edgeward_in_flight{model="echo",version="1.0.0"} 0.0' in server.ask("/metrics").body
    assert server.memory_bytes() - memory < 16 << 20


def said(server: RunningServer, data: bytes) -> bytes:
    """All that comes back when the client says nothing more."""
    with server.connect() as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        try:
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionResetError:
            return b""


def sentences(reply: bytes) -> list[int]:
    """The statuses; every fault comes with its sentence."""
    statuses = [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", reply)]
    faults = [status for status in statuses if status >= 400]
    assert len(re.findall(rb'{"error":"', reply)) == len(faults)
    assert not any(status in (500, 501, 502) for status in statuses), reply
    return statuses


@FUZZED
@given(rubbish)
def test_any_bytes(server: RunningServer, data: bytes) -> None:
    sentences(said(server, data))


@FUZZED
@given(rubbish, st.sampled_from([b"POST", b"GET", b"PUT"]), st.integers(0, 40))
def test_any_head_lines_around_a_good_request(server: RunningServer, line: bytes, method: bytes, more: int) -> None:
    head = b"%b /v2/models/echo/infer HTTP/1.1\r\nHost: here\r\n" % method
    sentences(said(server, head + line + b"\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD + b"x" * more))


@FUZZED
@given(junk, st.binary(max_size=30), st.one_of(st.none(), st.integers(-5, 200)))
def test_any_document(server: RunningServer, document: object, rest: bytes, size: int | None) -> None:
    body = json.dumps(document).encode() + rest
    head = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
    if size is not None:
        head += b"Inference-Header-Content-Length: %d\r\n" % size
    statuses = sentences(said(server, head + b"Content-Length: %d\r\n\r\n" % len(body) + body))
    assert len(statuses) == 1


@FUZZED
@given(st.data())
def test_a_good_request_with_bytes_changed(server: RunningServer, data: st.DataObject) -> None:
    body = BINARY + b"\0" * 12
    head = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
    head += b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (len(BINARY), len(body))
    request = bytearray(head + body)
    for _ in range(data.draw(st.integers(1, 3))):
        request[data.draw(st.integers(0, len(request) - 1))] = data.draw(st.integers(0, 255))
    sentences(said(server, bytes(request)))
