"""Runs our small modules on a device over ssh and hears their JSON lines; nothing is installed or written there."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgeward.kit.errors import Failed, Unavailable, Unsupported
from edgeward.kit.process import send
from edgeward.measure import carried, ssh

WATCH = (
    "edgeward",
    "edgeward.measure",
    "edgeward.measure.sysfs",
    "edgeward.measure.conditions",
    "edgeward.measure.watch",
    "edgeward.measure.watch.notices",
    "edgeward.measure.watch.processes",
    "edgeward.measure.watch.machines",
    "edgeward.measure.watch.questions",
    "edgeward.measure.watch.watcher",
    "edgeward.measure.watch.stream",
)
"""What `edgeward top HOST` takes along."""


class Errand:
    """One module that runs on `host` for as long as the `with` lasts; iterate over it for its lines, decoded.

    Raises Unavailable where the host cannot be reached or the connection is lost, Unsupported where its Python is
    older than 3.9, Failed where the module ends before its time.
    """

    def __init__(self, host: str, modules: Sequence[str], ask: dict[str, Any], options: Sequence[str] = ()) -> None:
        self.host = host
        self._complaint = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the errand
        self._process = subprocess.Popen(
            ssh.python_command(host, Path(carried.__file__), options),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaint, start_new_session=True,
        )  # fmt: skip
        message = {"sources": {name: _source(name) for name in modules}, "run": modules[-1], "ask": ask}
        with suppress(BrokenPipeError):  # why it ended is told by the first line that is missing
            send(self._process.stdin, json.dumps(message).encode())  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; the module there then returns. A repeat is harmless."""
        with suppress(ProcessLookupError):
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()

    def __iter__(self) -> Iterator[Any]:
        lines = iter(self._process.stdout)  # type: ignore[arg-type]
        greeting = carried.GREETING.encode()
        for line in lines:  # what a login script says comes before ours
            if line.strip() == greeting:
                break
        for line in lines:
            yield self._decoded(line)
        raise self._ended()

    def _decoded(self, line: bytes) -> Any:
        try:
            said = json.loads(line)
        except ValueError:
            raise self._ended() from None  # cut in the middle of a line
        if isinstance(said, dict) and "too_old" in said:
            version = ".".join(map(str, said["too_old"]))
            raise Unsupported(f"{self.host}: its python3 is {version}, wanted 3.9 or newer")
        return said

    def _ended(self) -> Unavailable | Failed:
        code = self._process.wait()
        self._complaint.seek(0)
        complaint = self._complaint.read().decode(errors="replace")
        if "Traceback (most recent call last)" in complaint:
            return Failed(f"{self.host}: it failed there: {complaint.strip().splitlines()[-1]}")
        if code == 0:
            return Unavailable(f"{self.host}: it ended there before it was asked to")
        return ssh.ended(self.host, code, complaint)


def _source(name: str) -> str:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(name)
    return Path(spec.origin).read_text(encoding="utf-8")
