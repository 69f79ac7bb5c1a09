"""How the service ends: what is under way is finished, and nothing new is begun."""

import signal
import socket
import time

import pytest
from serve_process import RunningServer, receive


def slow(rounds: int) -> bytes:
    body = b'{"inputs":[{"name":"rounds","shape":[1,1],"datatype":"INT64","data":[%d]}]}' % rounds
    return b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def in_flight(server: RunningServer) -> bool:
    return b'edgeward_in_flight{model="slow",version="1.0.0"} 1.0' in server.ask("/metrics").body


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_under_way_is_finished_before_the_server_ends(
    fresh_server: RunningServer, number: signal.Signals
) -> None:
    with fresh_server.connect() as connection:
        connection.sendall(slow(300_000))
        while not in_flight(fresh_server):
            pass
        fresh_server.process.send_signal(number)
        answer = receive(connection)
    assert answer.status == 200
    assert answer.headers["connection"] == "close"
    _, said = fresh_server.process.communicate(timeout=60)
    assert (fresh_server.process.returncode, said) == (0, "")


def test_an_idle_client_does_not_keep_the_server_from_ending(fresh_server: RunningServer) -> None:
    with fresh_server.connect() as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: here\r\n\r\n")
        assert receive(connection).status == 200
        assert fresh_server.stop() == (0, "")


def test_a_second_interrupt_ends_at_once(fresh_server: RunningServer) -> None:
    with fresh_server.connect() as connection:
        connection.sendall(slow(100_000_000))
        while not in_flight(fresh_server):
            pass
        fresh_server.process.send_signal(signal.SIGINT)
        time.sleep(0.05)  # two signals at the same instant are one
        fresh_server.process.send_signal(signal.SIGINT)
        _, said = fresh_server.process.communicate(timeout=60)
        assert (fresh_server.process.returncode, said) == (1, "")


def test_health_is_answered_while_a_slow_model_works(fresh_server: RunningServer) -> None:
    with fresh_server.connect() as connection:
        connection.sendall(slow(300_000))
        while not in_flight(fresh_server):
            pass
        for _ in range(20):
            assert fresh_server.ask("/v2/health/ready").json == {"ready": True}
        assert in_flight(fresh_server)
        assert receive(connection).status == 200


def test_a_client_that_has_said_its_last_word_still_gets_its_answer(fresh_server: RunningServer) -> None:
    with fresh_server.connect() as connection:
        connection.sendall(slow(20_000) + slow(10))
        connection.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert said.count(b"HTTP/1.1 200 OK") == 2
