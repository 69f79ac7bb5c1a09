"""Runs a program with a limit, to its end or message by message, and keeps the end of what it said."""

import os
import select
import signal
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

from edgeward.kit.errors import Failed


class Finished(NamedTuple):
    """How a program ended: its exit code (negative: killed by that signal), output and end of its complaints."""

    code: int
    output: bytes
    complaint: str

    @property
    def ending(self) -> str:
        """How it ended, for a person: "exit code 3" or "killed by SIGSEGV"."""
        return _ending(self.code)


def run(
    command: Sequence[str],
    *,
    limit_s: float,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Finished:
    """Runs `command` to its end in a process group of its own, in `folder` (by default the current one).

    Raises Failed after `limit_s`, and leaves no child.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, env={**os.environ, **(env or {})}, cwd=folder,
    )  # fmt: skip
    try:
        output, complaint = process.communicate(stdin, timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]} did not end within {limit_s:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return Finished(process.returncode, output, complaint.decode(errors="replace")[-2000:].strip())


class Died(Failed):
    """A program ended before it answered: with this code, after these complaints."""

    def __init__(self, code: int, complaint: str) -> None:
        last = complaint.splitlines()[-1:]
        super().__init__(" ".join([f"it died ({_ending(code)})", *last]))
        self.code = code
        self.complaint = complaint


class Partner:
    """A program that answers each message on its standard input with one on its standard output.

    A message is eight bytes, its length in little-endian order, and so many bytes more.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._complaint = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the partner
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaint, start_new_session=True,
            env=None if environment is None else {**os.environ, **environment},
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """Ends the program."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                _pipe(pipe).close()
        self._process.wait()
        self._complaint.close()

    def ask(self, message: bytes, *, limit_s: float) -> bytes:
        """Its answer to `message`. Raises Failed when it died or said nothing for `limit_s`."""
        self.tell(message)
        return self.hear(limit_s=limit_s)

    def tell(self, message: bytes) -> None:
        """Sends `message`; what went wrong is told by `hear`."""
        with suppress(BrokenPipeError):
            send(_pipe(self._process.stdin), message)

    def has_spoken(self) -> bool:
        """Whether `hear` has something to give now, or the end to tell of."""
        return bool(select.select([_pipe(self._process.stdout)], [], [], 0)[0])

    def hear(self, *, limit_s: float) -> bytes:
        """The next message it says. Raises Failed when it died or said nothing for `limit_s`."""
        output = _pipe(self._process.stdout)
        if not select.select([output], [], [], limit_s)[0]:
            raise Failed(f"it said nothing for {limit_s:g} s")
        message = receive(output)
        if message is not None:
            return message
        code = self._process.wait()
        self._complaint.seek(0)
        raise Died(code, self._complaint.read().decode(errors="replace").strip())


class Standby:
    """Partners of one kind, within a `with` started ahead of need: what has to begin afresh need not wait for its
    start. Those that were never taken end with it."""

    def __init__(self, command: Sequence[str], most: int, environment: Mapping[str, str] | None = None) -> None:
        self._command, self._most, self._environment = command, most, environment
        self._ready: list[Partner] = []
        self._used: list[Partner] = []
        self._is_needed = False

    def __enter__(self) -> Self:
        self._is_needed = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._is_needed = False
        for partner in (*self._ready, *self._used):
            partner.end()
        self._ready, self._used = [], []

    def take(self) -> Partner:
        """One that nothing was asked yet."""
        while self._ready:
            partner = self._ready.pop()
            if partner.is_alive():
                return partner
            partner.end()
        return Partner(self._command, self._environment)

    def lend(self) -> Partner:
        """One that need not be fresh, to be given back when it did well."""
        return self._used.pop() if self._used else self.take()

    def give_back(self, partner: Partner) -> None:
        if self._is_needed:
            self._used.append(partner)
        else:
            partner.end()

    def prepare(self) -> None:
        """Starts as many as are wanting: for a moment when nothing is measured."""
        while self._is_needed and len(self._ready) < self._most:
            self._ready.append(Partner(self._command, self._environment))


def send(pipe: IO[bytes], message: bytes) -> None:
    """Writes one message, as Partner's are."""
    pipe.write(struct.pack("<Q", len(message)))
    pipe.write(message)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes | None:
    """The next message, None where the other side has ended."""
    head = pipe.read(8)
    if len(head) < 8:
        return None
    length = struct.unpack("<Q", head)[0]
    message = pipe.read(length)
    return message if len(message) == length else None


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise TypeError("this program was started without that pipe")
    return pipe


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
