"""The newest results, kept in this process: it needs nothing, and stands in for a real sink in the tests of others."""

from collections import deque
from typing import Annotated

from msgspec import Meta

from edgeward.records.base import Document
from edgeward.serve.sinks.base import Outlet, Result, Sink


class MemoryOptions(Document):
    size: Annotated[int, Meta(ge=1)] = 1000


class Kept:
    def __init__(self, size: int) -> None:
        self.results: deque[Result] = deque(maxlen=size)
        self.closed = False

    def write(self, result: Result) -> None:
        self.results.append(result)

    def close(self) -> None:
        self.closed = True


class Memory:
    options = MemoryOptions

    def open(self, options: MemoryOptions, pipeline: str) -> Outlet:  # noqa: ARG002 - the promise names it
        return Kept(options.size)


plugin: Sink = Memory()
