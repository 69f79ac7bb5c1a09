"""The load generator, load.c, compiled once, and what it measured."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.kit import process
from edgeward.kit.errors import Failed, Unsupported

_SOURCE = Path(__file__).with_name("load.c")


class Taken(NamedTuple):
    """Milliseconds of every answered request, how many of them had no status 200, and what client and server cost."""

    ms: NDArray[np.float64]
    wrong: int
    seconds: float
    client_cpu_s: float
    server_cpu_s: float = 0.0

    @property
    def a_second(self) -> float:
        return len(self.ms) / self.seconds


class Load:
    def __init__(self, work: Path) -> None:
        """Raises Unsupported where there is no C compiler."""
        compiler = shutil.which("cc")
        if compiler is None:
            raise Unsupported("the load generator is C and there is no cc", hint="apt-get install gcc libc6-dev")
        self._work = work
        self._program = work / "load"
        subprocess.run([compiler, "-O2", str(_SOURCE), "-o", str(self._program)], check=True)

    def run(self, port: int, request: bytes, *, clients: int, seconds: float, requests: int = 0) -> Taken:
        """For so many seconds, or until `requests` were answered. Raises Failed where the server ended a connection."""
        file = self._work / "request"
        file.write_bytes(request)
        command = [str(self._program), str(port), str(clients), str(seconds), str(requests), str(file)]
        finished = process.run(command, limit_s=seconds + 60)
        if finished.code != 0:
            raise Failed(finished.complaint)
        _, wrong, took_s, cpu_s = finished.complaint.split()
        return Taken(np.frombuffer(finished.output, np.uint64) / 1e6, int(wrong), float(took_s), float(cpu_s))
