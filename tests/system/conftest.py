"""A device on the loopback for the tests that measure on another machine."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_sshd import Server, serving


@pytest.fixture(scope="session")
def runner_cache() -> Iterator[Path]:
    """Where the device keeps what it was sent, half a gigabyte: once for all tests, and not for longer."""
    with tempfile.TemporaryDirectory(prefix="edgeward-runner-") as folder:
        yield Path(folder)


@pytest.fixture
def server(tmp_path: Path, runner_cache: Path) -> Iterator[Server]:
    with serving(tmp_path, runner_cache) as running:
        yield running
