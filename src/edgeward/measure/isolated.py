"""A model in a process of its own: one that crashes its runtime, or eats the memory, is one error and no more."""

from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from edgeward.infer.runtimes.base import Tensors
from edgeward.measure import jobs
from edgeward.measure.bench import WORKERS, answer_of

_LOAD_LIMIT_S = 300
_RUN_LIMIT_S = 300


class IsolatedSession:
    """A Session by messages to another process; a context manager that ends it.

    Raises what the runtime raises, and Failed when its process dies or does not answer.
    """

    def __init__(self, file: str, runtime: str, threads: int) -> None:
        self._partner = WORKERS.take()
        try:
            told = self._partner.ask(jobs.encode(jobs.Open(file, runtime, threads)), limit_s=_LOAD_LIMIT_S)
            opened = answer_of(told, jobs.Opened)
        except BaseException:
            self._partner.end()
            raise
        self.inputs = opened.inputs
        self.outputs = opened.outputs
        self.arithmetic = opened.arithmetic
        self.placement = opened.placement

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._partner.end()
        WORKERS.prepare()

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        told = self._partner.ask(jobs.encode(jobs.packed(feeds)), limit_s=_RUN_LIMIT_S)
        return list(jobs.unpacked(answer_of(told, jobs.Tensors)).values())
