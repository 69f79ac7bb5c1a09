"""A model in a process of its own: one that crashes its runtime, or eats the memory, is one error and no more."""

import statistics
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from edgeward.infer.runtimes.base import Tensors
from edgeward.kit.process import Partner
from edgeward.measure import jobs
from edgeward.measure.bench import WORKERS, answer_of
from edgeward.measure.one_cpu import on_one_cpu

_LOAD_LIMIT_S = 300
_RUN_LIMIT_S = 300
_TURN_S = 0.005
_TURNS, _TURNS_S = 20, 1.0
"""So many turns, or as many as begin within a second: a large model has one."""


class IsolatedSession:
    """A Session by messages to another process; a context manager that ends it.

    Raises what the runtime raises, and Failed when its process dies or does not answer.
    """

    def __init__(self, file: str, runtime: str, threads: int) -> None:
        self._job = jobs.Open(file, runtime, threads)
        self._loading: list[Partner] = []
        self._partners = [WORKERS.take()]
        try:
            told = self._partners[0].ask(jobs.encode(self._job), limit_s=_LOAD_LIMIT_S)
            opened = answer_of(told, jobs.Opened)
        except BaseException:
            self._partners[0].end()
            raise
        self.inputs = opened.inputs
        self.outputs = opened.outputs
        self.placement = opened.placement

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        first, *copies = self._partners
        for partner in copies if kind is None else ():
            WORKERS.give_back(partner)
        for partner in (first, *(() if kind is None else copies), *self._loading):
            partner.end()
        WORKERS.prepare()

    @cached_property
    def arithmetic(self) -> str | None:
        told = self._partners[0].ask(jobs.encode(jobs.Account()), limit_s=_LOAD_LIMIT_S)
        return answer_of(told, jobs.Accounted).arithmetic

    def alone(self, contender: jobs.Contender, *, seconds: float = 0.2) -> jobs.SoloResult:
        """What this model costs, before it was run: the load, first and steady inference and peak memory of its
        process. `contender` is this model on as many threads."""
        asked = jobs.encode(jobs.Alone(contender.feeds, seconds))
        return answer_of(self._partners[0].ask(asked, limit_s=_RUN_LIMIT_S), jobs.SoloResult)

    def share_of(self, other: "IsolatedSession", mine: jobs.Contender, theirs: jobs.Contender) -> float:
        """How many times as long as the `other` model this one takes, both timed in turn, on one CPU where one is
        enough for them."""
        pids = [self._partners[0].pid, other._partners[0].pid]
        ratios, start = list[float](), perf_counter()
        with on_one_cpu(pids) if mine.threads == theirs.threads == 1 else nullcontext():
            while not ratios or (len(ratios) < _TURNS and perf_counter() - start < _TURNS_S):
                ratios.append(self._turn_ms(mine) / other._turn_ms(theirs))
        return statistics.median(ratios)

    def _turn_ms(self, contender: jobs.Contender) -> float:
        asked = jobs.encode(jobs.Alone(contender.feeds, _TURN_S, least_runs=1))
        return answer_of(self._partners[0].ask(asked, limit_s=_RUN_LIMIT_S), jobs.SoloResult).steady_ms

    def widen(self, copies: int) -> None:
        """Loads the model in further processes; each takes its share in `run_each` from when it is ready. From now on
        nothing is measured here: those that the next models will want are started too."""
        for _ in range(copies - len(self._partners) - len(self._loading)):
            partner = WORKERS.lend()
            partner.tell(jobs.encode(self._job))
            self._loading.append(partner)
        WORKERS.prepare()

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        told = self._partners[0].ask(jobs.encode(jobs.packed(feeds)), limit_s=_RUN_LIMIT_S)
        return _values(answer_of(told, jobs.Tensors))

    def run_each(self, each: Sequence[Tensors]) -> list[list[NDArray[Any]]]:
        """What `run` gives for each of them, in one message to each process."""
        for partner in [one for one in self._loading if one.has_spoken()]:
            answer_of(partner.hear(limit_s=_LOAD_LIMIT_S), jobs.Opened)
            self._loading.remove(partner)
            self._partners.append(partner)
        share = -(-len(each) // len(self._partners))
        busy = list(zip(self._partners, range(0, len(each), share), strict=False))
        for partner, start in busy:
            asked = jobs.Each(tuple(jobs.packed(feeds) for feeds in each[start : start + share]))
            partner.tell(jobs.encode(asked))
        told = [partner.hear(limit_s=_RUN_LIMIT_S) for partner, _ in busy]
        return [_values(one) for message in told for one in answer_of(message, jobs.Each).values]


def _values(message: jobs.Tensors) -> list[NDArray[Any]]:
    return list(jobs.unpacked(message).values())
