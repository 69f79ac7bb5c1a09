"""Servers as processes: started, waited for, weighed and ended."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

from bench.serve_vs_peers import environments
from bench.serve_vs_peers.bundles import Bundle
from bench.serve_vs_peers.roster import EDGEWARD, PEERS_FOLDER, Contestant

from edgeward.kit.errors import Failed

_READY_S = 90.0
QUIET = {
    "BENTOML_DO_NOT_TRACK": "True", "CI": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1",
}  # fmt: skip
"""Peers are asked not to report home, and not to fetch anything."""
_INSTALLED = {"PYTHONDONTWRITEBYTECODE": ""}
"""Modules are compiled once, as those of an installed package are."""


class Running(NamedTuple):
    port: int
    pid: int

    def memory(self) -> "Memory":
        return memory_of(self.pid)

    def cpu_s(self) -> float:
        """Of all its processes and threads that there are now."""
        stats = [file for pid in _family(self.pid) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        return sum(int(file.read_text().split()[0]) for file in stats) / 1e9


class Memory(NamedTuple):
    """Of a process and all below it, in bytes. What two of them share counts in each of their `rss`, once in `pss`."""

    rss: int
    pss: int


def command_of(one: Contestant, bundle: Bundle, port: int, environments_folder: Path) -> list[str]:
    if one.name == EDGEWARD:
        served = ["serve", str(bundle.folder), "--port", str(port), "--threads", "1"]
        return [sys.executable, "-m", "edgeward", *served]
    python = environments.python(environments_folder, one.name)
    return [str(python), str(PEERS_FOLDER / f"{one.name}.py"), str(bundle.model), str(port)]


@contextmanager
def running(one: Contestant, bundle: Bundle, environments_folder: Path, log: Path, *more: str) -> Iterator[Running]:
    """Answers requests already. Raises Failed where it does not come up."""
    port = free_port()
    with started([*command_of(one, bundle, port, environments_folder), *more], log, bundle.environment) as process:
        wait_for_answer(process, port, one.form.request(bundle.facts, bundle.sample), log)
        yield Running(port, process.pid)


@contextmanager
def started(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """In a process group of its own, which is ended at the end; what it says goes to `log`."""
    with log.open("wb") as told:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=told, stderr=told, start_new_session=True,
            env={**os.environ, **QUIET, **_INSTALLED, **environment},
        )  # fmt: skip
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, patience_s in ((signal.SIGTERM, 10), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)


def wait_for_answer(process: subprocess.Popen[bytes], port: int, request: bytes, log: Path) -> None:
    """Returns after the first reply with status 200."""
    end = monotonic() + _READY_S
    while monotonic() < end:
        if process.poll() is not None:
            raise Failed(f"it ended before it answered: {' '.join(log.read_text(errors='replace').split())[-300:]}")
        with suppress(OSError):
            if ask(port, request)[0] == 200:
                return
        sleep(0.002)
    raise Failed(f"it did not answer within {_READY_S:g} s: {' '.join(log.read_text(errors='replace').split())[-300:]}")


def ask(port: int, request: bytes, limit_s: float = 30.0) -> tuple[int, bytes]:
    """Status and body of the reply, over a connection of its own. Raises OSError where there is none."""
    with socket.create_connection(("127.0.0.1", port), limit_s) as connection:
        connection.sendall(request)
        return read_reply(connection)


def read_reply(connection: socket.socket) -> tuple[int, bytes]:
    """Raises OSError where the connection ends before the reply does."""
    reply = b""
    while (end := reply.find(b"\r\n\r\n")) < 0 or len(reply) < end + 4 + _length(reply[: end + 2]):
        part = connection.recv(1 << 16)
        if not part:
            raise ConnectionResetError("the server closed the connection")
        reply += part
    return int(reply[9:12]), reply[end + 4 :]


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"\ncontent-length:")[2].partition(b"\r")[0])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory_of(pid: int) -> Memory:
    found = [_weighed(one) for one in _family(pid)]
    return Memory(sum(one.rss for one in found), sum(one.pss for one in found))


def _family(pid: int) -> list[int]:
    family = [pid]
    for parent in family:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            family += [int(child) for child in children.read_text().split()]
    return family


def _weighed(pid: int) -> Memory:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rss, pss = (int(text.partition(f"\n{name}:")[2].split()[0]) * 1024 for name in ("Rss", "Pss"))
    return Memory(rss, pss)
