"""Real parts around a pipeline: a broker, a serial line, and a pipeline that runs in a thread."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pipelines import running

from edgeward.serve import Counts


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def until(is_true: Callable[[], Any], what: str = "it") -> None:
    """Waits, for so long that only what never comes fails."""
    end = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)


def program(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.skip(f"needs {name}: apt-get install {package}")
    return found


class Broker:
    """mosquitto on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self._program = program("mosquitto", "mosquitto")
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([self._program, "-c", self._settings], stderr=subprocess.DEVNULL)
        until(self._answers, "the broker")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    one = Broker(folder)
    try:
        yield one
    finally:
        one.stop()


class SerialLine:
    """Two ends of a serial line, from socat: we write to `near`, Edgeward reads `far`."""

    def __init__(self, folder: Path) -> None:
        self.near, self.far = folder / "near", folder / "far"
        self._program = program("socat", "socat")
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, f"pty,raw,echo=0,link={self.near}", f"pty,raw,echo=0,link={self.far}"]
        )
        until(lambda: self.near.exists() and self.far.exists(), "the serial line")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def write(self, data: bytes) -> None:
        with self.near.open("wb", buffering=0) as file:
            file.write(data)


class InThread:
    """A pipeline that runs beside the test until it is stopped."""

    def __init__(self, source: Any, *outlets: Any, **more: Any) -> None:
        self.told: list[str] = []
        self.running = running(source, *outlets, told=self.told, **more)
        self.counts: Counts | None = None
        self.fault: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.counts = self.running.run(patient=True)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.fault = error

    def __enter__(self) -> "InThread":
        return self

    def __exit__(self, *_: object) -> None:
        self.running.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()
