"""One server process for the tests that leave it as it was, and a fresh one for those that do not."""

from collections.abc import Iterator

import pytest
from serve_process import RunningServer


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    running = RunningServer()
    yield running
    code, said = running.stop()
    assert code == 0
    assert "Traceback" not in said


@pytest.fixture
def fresh_server() -> Iterator[RunningServer]:
    running = RunningServer()
    yield running
    if running.process.poll() is None:
        running.stop()
