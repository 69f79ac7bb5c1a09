"""The service under a service manager: it says how it fares, and a model that hangs is not fed."""

import signal
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import fragile_bundle
import pytest

from edgeward import bundle

LIMIT_S = 1.0


class Watched:
    """A service with a socket of a service manager's kind, which this test reads."""

    def __init__(self, folder: Path, key: bundle.SigningKey) -> None:
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify"))
        self.manager.settimeout(60)
        self.process = fragile_bundle.serve(
            fragile_bundle.make(folder / "bundle", key), bundle.public_path_of(key.path),
            NOTIFY_SOCKET=str(folder / "notify"), WATCHDOG_USEC=f"{LIMIT_S * 1e6:.0f}",
        )  # fmt: skip

    def hear(self, wanted: str) -> list[str]:
        """What it says up to the first message with `wanted` in it, which is the last."""
        said: list[str] = []
        while not said or wanted not in said[-1]:
            said.append(self.manager.recv(4096).decode())
        return said

    def line(self) -> str:
        return fragile_bundle.said_first(self.process)

    def ask(self, line: str, body: bytes) -> HTTPConnection:
        connection = HTTPConnection("127.0.0.1", int(line.partition("127.0.0.1:")[2].partition("/")[0]), timeout=60)
        connection.request("POST", "/v2/models/fragile/infer", body)
        return connection


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    running = Watched(tmp_path, bundle.create_key(tmp_path / "signing.key"))
    yield running
    running.process.kill()
    running.process.communicate()
    running.manager.close()


def test_it_is_ready_when_it_listens_fed_while_idle_and_says_when_it_stops(watched: Watched) -> None:
    loading, ready = watched.hear("READY=1")
    assert loading == "STATUS=loads and tests fragile 1.0.0"
    url = watched.line().partition(" at ")[2].removesuffix("/v2/models/fragile")
    assert ready == f"READY=1\nSTATUS=serves fragile 1.0.0 at {url}; nothing was asked yet"
    for _ in range(3):
        watched.hear("WATCHDOG=1")
    with watched.ask(url, fragile_bundle.body(1, 2)).getresponse() as reply:
        assert reply.status == 200
    watched.hear("; 1 requests, 0 errors, median ")
    watched.process.terminate()
    assert watched.hear("STOPPING=1")[-1] == "STOPPING=1\nSTATUS=finishes the requests under way"
    assert watched.process.wait(60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("first", [fragile_bundle.SLOW, 1.0])
def test_a_model_that_hangs_is_not_fed(watched: Watched, first: float) -> None:
    watched.hear("READY=1")
    line = watched.line()
    for _ in range(20):  # quick ones make the event loop run the model by itself, slow ones leave it to the thread
        with watched.ask(line, fragile_bundle.body(first, 2)).getresponse() as reply:
            assert reply.status == 200
    connection = watched.ask(line, fragile_bundle.body(fragile_bundle.HANG, 2))
    if first == fragile_bundle.SLOW:
        assert watched.line().startswith("warning watchdog-not-fed reason='fragile 1.0.0 has ended no inference for ")
    watched.manager.settimeout(3 * LIMIT_S)
    with pytest.raises(TimeoutError):
        watched.hear("no such message")
    connection.close()


@pytest.mark.slow
def test_long_work_that_goes_on_is_fed(watched: Watched) -> None:
    watched.hear("READY=1")
    line, count = watched.line(), 200
    numbers = [value for _ in range(count) for value in (fragile_bundle.SLOW, 1.0)]
    connection = watched.ask(line, fragile_bundle.body(*numbers))
    for _ in range(3):
        watched.hear("WATCHDOG=1")
    assert connection.getresponse().status == 200


def test_a_service_that_nobody_manages_says_nothing(tmp_path: Path) -> None:
    key = bundle.create_key(tmp_path / "signing.key")
    folder = fragile_bundle.make(tmp_path / "bundle", key)
    process = fragile_bundle.serve(folder, bundle.public_path_of(key.path), NOTIFY_SOCKET="/nowhere/at/all")
    assert fragile_bundle.said_first(process).startswith("serving fragile 1.0.0 at http://")
    process.terminate()
    assert process.communicate(timeout=60) == (None, "")
    assert process.returncode == 0


def test_a_runtime_that_crashes_ends_the_process_and_nothing_else(watched: Watched) -> None:
    watched.hear("READY=1")
    connection = watched.ask(watched.line(), fragile_bundle.body(fragile_bundle.CRASH, 2))
    assert watched.process.wait(60) == -signal.SIGSEGV
    connection.close()
