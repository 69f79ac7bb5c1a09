"""Runs a program for a result, with its JSON on standard input."""

import shlex
import shutil
from time import monotonic

from edgeward.kit.errors import Failed, WrongInput
from edgeward.kit.process import run
from edgeward.records.base import Document, Positive
from edgeward.serve.sinks.base import Outlet, Result, Sink


class CommandOptions(Document):
    """`command` is split as a shell would, and no shell runs. At most `rate_hz` programs are started a second, for
    the newest results; the others are passed over. One that runs longer than `limit_s` is ended."""

    command: str
    rate_hz: Positive = 1.0
    limit_s: Positive = 5.0


class Hook:
    def __init__(self, options: CommandOptions) -> None:
        try:
            self._words = shlex.split(options.command)
        except ValueError as error:
            raise WrongInput(f"{options.command!r}: is no command ({error})") from error
        if not self._words or shutil.which(self._words[0]) is None:
            raise WrongInput(f"{options.command}: there is no program {self._words[0] if self._words else ''!r}")
        self._options = options
        self._next_s = 0.0

    def write(self, result: Result) -> None:
        now_s = monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + 1 / self._options.rate_hz
        done = run(self._words, limit_s=self._options.limit_s, stdin=result.line)
        if done.code:
            last = "".join(f": {line}" for line in done.complaint.splitlines()[-1:])
            raise Failed(f"{self._words[0]} ended with {done.ending}{last}")

    def close(self) -> None:
        pass


class Command:
    options = CommandOptions

    def open(self, options: CommandOptions, pipeline: str) -> Outlet:  # noqa: ARG002 - the promise names it
        return Hook(options)


plugin: Sink = Command()
