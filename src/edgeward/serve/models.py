"""A served model: its predictor, its face to clients, and the rule for where its work is done."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Predictor, Sample
from edgeward.infer.answer import Box
from edgeward.infer.markers import ASKED, WORDS, framed
from edgeward.kit.errors import Unavailable
from edgeward.kit.threads import name_this
from edgeward.records.bundle import Manifest
from edgeward.records.model import Classify, TensorSpec
from edgeward.serve.protocol import Signature, signature
from edgeward.serve.stats import ModelStats

INLINE_LIMIT_S = 0.005
"""Work shorter than this is done at once in the event loop: handing it to a thread would cost as much, and nobody
notices a health check that waits so long."""

BATCH = 32
"""Samples of one request that run together, where the model leaves the batch size free; bounds memory."""


class Busy(Unavailable):
    """The model's queue is full; `retry_after_s` is about how long it needs to work it off."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting} requests are waiting already; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Late(Unavailable):
    """The request waited for longer than it may; it was not run."""

    def __init__(self) -> None:
        super().__init__("the request waited for its turn until its deadline had passed; it was not run")


class Asker(Protocol):
    """Who waits for an answer; `gone` when nobody does any more."""

    @property
    def gone(self) -> bool: ...


class Ran(NamedTuple):
    """Outputs with the samples on the first axis, and where the time went (seconds)."""

    outputs: dict[str, NDArray[Any]]
    pre_s: float
    infer_s: float
    post_s: float


class ServedModel:
    """One model that answers requests. Owned by the event loop; at most one request runs at a time."""

    def __init__(
        self,
        predictor: Predictor,
        model: Signature,
        *,
        name: str,
        version: str,
        platform: str,
        facts: Mapping[str, str],
        threads: int | None = None,
    ) -> None:
        self.predictor = predictor
        self.signature = model
        self.name = name
        self.version = version
        self.platform = platform
        self.facts = dict(facts)
        self.threads = threads
        self.stats = ModelStats()
        self.sample_s = math.inf  # unknown, so the first run is made in the thread
        self._sample_elements = 1  # of the sample that `sample_s` speaks of; a longer recording takes longer
        self.working = False  # whether the thread runs the model now, even if nobody waits for it any more
        self._pending = 0
        self._worker = ThreadPoolExecutor(1, f"edgeward-{name}", name_this, (name,))

    @classmethod
    def of(cls, manifest: Manifest, predictor: Predictor, *, digest: str, threads: int | None = None) -> "ServedModel":
        """The model of a verified bundle. Raises Unsupported for a dtype that the protocol cannot carry."""
        return cls(
            predictor,
            signature(
                manifest.inputs,
                [*(without_batch(spec) for spec in predictor.session.outputs), *box_specs(predictor)],
                manifest.labels,
                softmax=any(isinstance(step, Classify) and step.softmax for step in manifest.postprocess),
                answers=[spec.name for spec in box_specs(predictor)],
            ),
            name=manifest.name,
            version=manifest.version,
            platform=f"{manifest.runtime}_{manifest.model.format}",
            facts={"runtime": manifest.runtime, "format": manifest.model.format, "digest": digest},
            threads=threads,
        )

    @property
    def placement(self) -> str:
        """Which nodes run where; what has no accelerator runs on the CPU."""
        return getattr(self.predictor.session, "placement", None) or "CPU"

    @property
    def queued(self) -> int:
        """Requests that wait for the one that runs."""
        return max(0, self._pending - 1)

    def warm_up(self, sample: Sample, *, runs: int = 7) -> None:
        """Runs the model a few times, so that the first client does not pay for it, and learns how long it takes."""
        tensors = {name: np.asarray(value)[None] for name, value in sample.items()}
        self._sample_elements = _elements(tensors)
        self.sample_s = float(np.median([_timed(self.predictor, tensors) for _ in range(runs)]))

    def make_room(self, most: int) -> None:
        """Raises Busy when `most` requests are waiting or running already."""
        if self._pending >= most:
            raise Busy(self._pending, retry_after_s(self._pending, self.sample_s))

    async def answer(self, tensors: Mapping[str, NDArray[Any]], count: int, deadline_s: float = math.inf) -> Ran:
        """The outputs for `count` samples. Raises Late where they were not begun before `deadline_s`."""
        ran = self.at_once(tensors, count)
        return await self.in_turn(tensors, count, deadline_s) if ran is None else ran

    def at_once(self, tensors: Mapping[str, NDArray[Any]], count: int) -> Ran | None:
        """The outputs where this is short work and nothing is ahead of it; None where it belongs in the thread."""
        usual_samples = _elements(tensors) / self._sample_elements
        if not runs_inline(self.sample_s * usual_samples, self._pending):
            return None
        ran = run(self.predictor, tensors, count)
        self._learn((ran.pre_s + ran.infer_s + ran.post_s) / usual_samples)
        return ran

    async def in_turn(
        self, tensors: Mapping[str, NDArray[Any]], count: int, deadline_s: float = math.inf, asker: Asker | None = None
    ) -> Ran:
        """The outputs, by the model's thread, in the order in which requests came.

        Raises Late where it did not begin before `deadline_s`, a moment of perf_counter(), or `asker` was gone by then.
        """
        usual_samples = _elements(tensors) / self._sample_elements
        self._pending += 1
        try:
            loop = asyncio.get_running_loop()
            ran = await loop.run_in_executor(self._worker, self._work, tensors, count, deadline_s, asker)
        finally:
            self._pending -= 1
        self._learn((ran.pre_s + ran.infer_s + ran.post_s) / usual_samples)
        return ran

    def _learn(self, seconds: float) -> None:
        """A moving mean: a device that gets hot, or busy with other work, moves from inline to the thread by itself."""
        self.sample_s = seconds if self.sample_s == math.inf else 0.9 * self.sample_s + 0.1 * seconds

    def _work(self, tensors: Mapping[str, NDArray[Any]], count: int, deadline_s: float, asker: Asker | None) -> Ran:
        if perf_counter() > deadline_s or (asker is not None and asker.gone):
            raise Late
        self.working = True
        try:
            return run(self.predictor, tensors, count)
        finally:
            self.working = False


def runs_inline(expected_s: float, ahead: int) -> bool:
    """Whether work is done in the event loop: it is short, and no other work of this model is under way."""
    return expected_s < INLINE_LIMIT_S and ahead == 0


def retry_after_s(waiting: int, sample_s: float) -> int:
    """Whole seconds until a queue of `waiting` requests has moved, between 1 and 60."""
    expected = waiting * sample_s
    return 60 if expected > 60 else max(1, math.ceil(expected))


def run(predictor: Predictor, tensors: Mapping[str, NDArray[Any]], count: int) -> Ran:
    """The outputs for `count` samples stacked in `tensors`. Raises WrongInput where a sample does not fit."""
    return framed(_run, predictor, tensors, count) if WORDS[ASKED] else _run(predictor, tensors, count)


def _run(predictor: Predictor, tensors: Mapping[str, NDArray[Any]], count: int) -> Ran:
    if count == 1 and batch_size(predictor) in (None, 1):
        answer = predictor.answer({name: value[0] for name, value in tensors.items()})
        outputs = {name: value[None] for name, value in answer.outputs.items()}
        outputs |= _box_tensors(predictor, [answer.boxes or ()])
        return Ran(outputs, answer.pre_ms / 1e3, answer.infer_ms / 1e3, answer.post_ms / 1e3)
    return _run_batches(predictor, tensors, count)


def _run_batches(predictor: Predictor, tensors: Mapping[str, NDArray[Any]], count: int) -> Ran:
    fixed = batch_size(predictor)
    size = fixed or BATCH
    parts: list[list[NDArray[Any]]] = []
    pre_s = infer_s = 0.0
    began = perf_counter()
    for start in range(0, count, size):
        at = perf_counter()
        group = [
            predictor.tensors({name: value[index] for name, value in tensors.items()})
            for index in range(start, min(start + size, count))
        ]
        used = len(group)
        if fixed is not None:
            group += [group[-1]] * (size - used)
        feeds = {name: np.stack([one[name] for one in group]) for name in group[0]}
        ready = perf_counter()
        parts.append([value[:used] for value in predictor.session.run(feeds)])
        pre_s, infer_s = pre_s + ready - at, infer_s + perf_counter() - ready
    names = [spec.name for spec in predictor.session.outputs]
    outputs = {name: np.concatenate(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}
    if predictor.detects is not None:
        found = [
            predictor.boxes(
                {name: value[index] for name, value in tensors.items()}, [output[index] for output in outputs.values()]
            )
            for index in range(count)
        ]
        outputs |= _box_tensors(predictor, found)
    return Ran(outputs, pre_s, infer_s, perf_counter() - began - pre_s - infer_s)


def box_specs(predictor: Predictor) -> tuple[TensorSpec, ...]:
    """Two more outputs where the model detects: boxes (x1, y1, x2, y2 in pixels of the image as it was sent, score,
    class number) and the names of their classes. They keep out of the way of the model's own outputs."""
    if predictor.detects is None:
        return ()
    taken = {spec.name for spec in predictor.session.outputs}
    boxes, labels = (f"found_{name}" if name in taken else name for name in ("boxes", "labels"))
    return (
        TensorSpec(name=boxes, dtype="float32", shape=("found", 6)),
        TensorSpec(name=labels, dtype="string", shape=("found",)),
    )


def _box_tensors(predictor: Predictor, found: Sequence[Sequence[Box]]) -> dict[str, NDArray[Any]]:
    """As tensors; a sample with fewer boxes than another is filled up with zeros, class -1 and no name."""
    specs = box_specs(predictor)
    if not specs:
        return {}
    most = max(map(len, found), default=0)
    boxes = np.zeros((len(found), most, 6), np.float32)
    boxes[..., 5] = -1
    labels = np.full((len(found), most), "", object)
    for row, mine in enumerate(found):
        for place, box in enumerate(mine):
            boxes[row, place] = box.x1, box.y1, box.x2, box.y2, box.score, box.index
            labels[row, place] = box.label
    return {specs[0].name: boxes, specs[1].name: labels}


def batch_size(predictor: Predictor) -> int | None:
    """The batch size that the model is fixed to, None where it is free."""
    first = predictor.session.inputs[0].shape[0]
    return first if isinstance(first, int) else None


def _elements(tensors: Mapping[str, NDArray[Any]]) -> int:
    return sum(value.size for value in tensors.values())


def _timed(predictor: Predictor, tensors: Mapping[str, NDArray[Any]]) -> float:
    began = perf_counter()
    run(predictor, tensors, 1)
    return perf_counter() - began


def without_batch(spec: TensorSpec) -> TensorSpec:
    """A session's spec as it is for one sample."""
    return TensorSpec(name=spec.name, dtype=spec.dtype, shape=spec.shape[1:])
