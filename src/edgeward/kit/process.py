"""Runs a program with a limit and keeps the end of what it said."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgeward.kit.errors import Failed


class Finished(NamedTuple):
    """How a program ended: its exit code (negative: killed by that signal), output and end of its complaints."""

    code: int
    output: bytes
    complaint: str

    @property
    def ending(self) -> str:
        """How it ended, for a person: "exit code 3" or "killed by SIGSEGV"."""
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}"
        return f"exit code {self.code}"


def run(
    command: Sequence[str], *, limit_s: float, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> Finished:
    """Runs `command` to its end in a process group of its own. Raises Failed after `limit_s`, and leaves no child."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, env={**os.environ, **(env or {})},
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
