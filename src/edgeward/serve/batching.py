"""Requests that wait for a model together run together, where that is quicker for each of them.

Whether it is, is measured at the start. A request waits for others no longer than it was told to.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Predictor, Sample
from edgeward.kit.errors import Unavailable
from edgeward.serve.running import Asker, Late, Ran, batch_size, run
from edgeward.serve.workers import Done, Workers

Tensors = Mapping[str, NDArray[Any]]

_PAYS = 0.9
_SAME = 1e-4


class Batch(NamedTuple):
    """At most `size` samples run together; the first of them waits up to `wait_s` for others."""

    size: int
    wait_s: float = 0.0


class Verdict(NamedTuple):
    """Whether batches are made, and why or why not."""

    pays: bool
    reason: str


def judge(alone_s: float, together_s: float, size: int, *, alike: bool) -> Verdict:
    """Of what a sample takes alone and within a batch of `size`."""
    told = f"a sample takes {1e3 * together_s / size:.3g} ms in a batch of {size}, alone {1e3 * alone_s:.3g} ms"
    if not alike:
        return Verdict(False, "the model answers otherwise in a batch than alone; each request runs alone")
    if together_s / size > _PAYS * alone_s:
        return Verdict(False, f"{told}: batches do not pay here; each request runs alone")
    return Verdict(True, f"{told}: up to {size} run together")


def measured(predictor: Predictor, sample: Sample, size: int, *, runs: int = 5) -> Verdict:
    """Runs the model on `sample` alone and `size` times at once, in turn."""
    if batch_size(predictor) is not None:
        return Verdict(False, "the model has no free batch axis; each request runs alone")
    one = {name: np.asarray(value)[None] for name, value in sample.items()}
    many = {name: np.repeat(value, size, axis=0) for name, value in one.items()}
    spent: list[tuple[float, float]] = []
    for _ in range(runs):
        began = perf_counter()
        alone = run(predictor, one, 1)
        between = perf_counter()
        together = run(predictor, many, size)
        spent.append((between - began, perf_counter() - between))
    alike = all(_are_alike(alone.outputs[name], value) for name, value in together.outputs.items())
    alone_s, together_s = np.min(np.array(spent), axis=0)  # what is not the model only adds
    return judge(float(alone_s), float(together_s), size, alike=alike)


def _are_alike(alone: NDArray[Any], together: NDArray[Any]) -> bool:
    if alone.dtype.kind != "f":
        return bool((together == alone).all())
    scale = float(np.abs(alone[np.isfinite(alone)]).max(initial=0))
    return bool(np.allclose(together, alone, rtol=_SAME, atol=_SAME * scale, equal_nan=True))


class _Waiting(NamedTuple):
    tensors: Tensors
    samples: int
    since_s: float
    deadline_s: float
    asker: Asker | None
    done: Done


class Batcher:
    """The queue of one model. Owned by the event loop; the model runs on `workers`."""

    def __init__(self, predictor: Predictor, workers: Workers, batch: Batch) -> None:
        self._predictor = predictor
        self._workers = workers
        self._batch = batch
        self._waiting: deque[_Waiting] = deque()
        self._task: asyncio.Task[None] | None = None
        self._more = asyncio.Event()
        self.working = False

    def add(self, done: Done, tensors: Tensors, count: int, deadline_s: float, asker: Asker | None) -> None:
        """`done` gets the outputs when their turn has come; Late or what the model raised, else."""
        self._waiting.append(_Waiting(tensors, count, perf_counter(), deadline_s, asker, done))
        self._more.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work_off())

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                await self._fill()
                group = self._take()
                if group:
                    answers = await self._answers(group)
                    for one, answer in zip(group, answers, strict=True):
                        one.done(answer)
        finally:
            self._task = None

    async def _answers(self, group: Sequence[_Waiting]) -> Sequence[Ran | Exception]:
        try:
            found: Sequence[Ran | Exception] = await self._workers.run(self._run, group)
        except Unavailable as error:  # there can be no thread
            return [error] * len(group)
        return found

    async def _fill(self) -> None:
        """Waits until a batch is full, or its first request has waited long enough."""
        until_s = self._waiting[0].since_s + self._batch.wait_s
        while sum(one.samples for one in self._waiting) < self._batch.size and (left := until_s - perf_counter()) > 0:
            self._more.clear()
            try:
                await asyncio.wait_for(self._more.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[_Waiting]:
        """From the front those that fit together; who waited too long is told so and left out."""
        group: list[_Waiting] = []
        total = 0
        while self._waiting:
            one = self._waiting[0]
            if perf_counter() > one.deadline_s or (one.asker is not None and one.asker.gone):
                self._waiting.popleft().done(Late())
            elif not group or (total + one.samples <= self._batch.size and _fit(group[0].tensors, one.tensors)):
                group.append(self._waiting.popleft())
                total += one.samples
            else:
                break
        return group

    def _run(self, group: Sequence[_Waiting]) -> list[Ran | Exception]:
        """An answer or a fault for each; a fault in a batch is the fault of one of it, so that each then runs alone."""
        self.working = True
        try:
            if len(group) > 1:
                together = {name: np.concatenate([one.tensors[name] for one in group]) for name in group[0].tensors}
                return _parted(run(self._predictor, together, sum(one.samples for one in group)), group)
        except Exception:  # noqa: BLE001 - told below, to the one whose fault it is
            return [self._alone(one) for one in group]
        else:
            return [self._alone(group[0])]
        finally:
            self.working = False

    def _alone(self, one: _Waiting) -> Ran | Exception:
        try:
            return run(self._predictor, one.tensors, one.samples)
        except Exception as error:  # noqa: BLE001 - raised again where the request waits
            return error


def _fit(first: Tensors, other: Tensors) -> bool:
    return all(first[name].shape[1:] == value.shape[1:] for name, value in other.items())


def _parted(ran: Ran, group: Sequence[_Waiting]) -> list[Ran | Exception]:
    parts: list[Ran | Exception] = []
    at = 0
    for one in group:
        outputs = {name: value[at : at + one.samples] for name, value in ran.outputs.items()}
        parts.append(ran._replace(outputs=outputs))
        at += one.samples
    return parts
