"""A served model: its predictor, its face to clients, and the rule for where its work is done."""

import asyncio
import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from itertools import count as counted
from threading import get_ident
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Predictor, Sample
from edgeward.infer.samples import decode_image
from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.records.bundle import Manifest
from edgeward.records.model import Classify, TensorSpec
from edgeward.serve.batching import Batch, Batcher, measured
from edgeward.serve.found import found_specs
from edgeward.serve.protocol import Plans, Signature, check, signature
from edgeward.serve.running import Asker, Late, Ran, run
from edgeward.serve.stats import ModelStats
from edgeward.serve.workers import Done, Workers, settle

INLINE_LIMIT_S = 0.005
"""Work shorter than this is done at once in the event loop: handing it to a thread would cost as much, and nobody
notices a health check that waits so long."""
ALONE_LIMIT_S = 0.02
"""The same where one client alone asks; to it, a thread and back cost half a millisecond of a cold CPU's time."""

_SURE = 32
"""So many requests of one kind tell what is usual."""
_NEXT_S = 0.0002
"""A request that comes so soon after another's answer had waited for it."""
_FEW = 4
"""So many clients who wait for one another are served soonest one by one: two runs at a time take longer each, and that
is felt in the slowest requests before it is in the rate."""
_LATE = 4.0
"""A run that took longer than so many times the expected counts as that."""


class Busy(Unavailable):
    """The model's queue is full; `retry_after_s` is about how long it needs to work it off."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting} requests are waiting already; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class ServedModel:
    """One model that answers requests. Owned by the event loop; at most `at_most` requests run at a time."""

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
        self.plans: Plans = {}
        self.name = name
        self.version = version
        self.platform = platform
        self.facts = dict(facts)
        self.threads = threads
        self.stats = ModelStats()
        self.sample_s = math.inf  # unknown, so the first run is made in the thread
        self._sample_elements = 1  # of the sample that `sample_s` speaks of; a longer recording takes longer
        self._batcher: Batcher | None = None
        self._working: set[int] = set()  # threads that run the model now, even if nobody waits for it any more
        self._crowd = Crowd()
        self.at_most = runs_at_once(predictor, threads)
        self._pending = 0
        self._proof: dict[str, NDArray[Any]] = {}
        self._workers = Workers(self.at_most, name)

    @classmethod
    def of(cls, manifest: Manifest, predictor: Predictor, *, digest: str, threads: int | None = None) -> "ServedModel":
        """The model of a verified bundle. Raises Unsupported for a dtype that the protocol cannot carry."""
        return cls(
            predictor,
            signature(
                manifest.inputs,
                [*(without_batch(spec) for spec in predictor.session.outputs), *found_specs(predictor)],
                manifest.labels,
                softmax=any(isinstance(step, Classify) and step.softmax for step in manifest.postprocess),
                answers=[spec.name for spec in found_specs(predictor)],
                image=manifest.kind == "image",
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
    def working(self) -> bool:
        """Whether its thread runs the model now."""
        return bool(self._working) or (self._batcher is not None and self._batcher.working)

    def batch(self, batch: Batch, sample: Sample) -> str:
        """From now on requests that wait together run together, if that pays here; says whether, and why."""
        verdict = measured(self.predictor, sample, batch.size)
        if verdict.pays:
            self.batch_always(batch)
        return verdict.reason

    def batch_always(self, batch: Batch) -> None:
        """From now on requests that wait together run together."""
        self._batcher = Batcher(self.predictor, self._workers, batch)

    @property
    def queued(self) -> int:
        """Requests that wait for the one that runs."""
        return max(0, self._pending - 1)

    def warm_up(self, sample: Sample, *, runs: int = 7) -> None:
        """Runs the model a few times, so that the first client does not pay for it, and learns how long it takes."""
        self._proof = tensors = {name: np.asarray(value)[None] for name, value in sample.items()}
        self._sample_elements = _elements(tensors)
        self.sample_s = float(np.median([_timed(self.predictor, tensors) for _ in range(runs)]))

    @property
    def completed(self) -> int:
        """Runs of the model that ended well."""
        return self.predictor.completed

    async def prove(self) -> None:
        """Runs the model on the sample that it was warmed up with: on its worker, behind the work that waits there."""
        await self.in_turn(self._proof, 1)

    def make_room(self, most: int) -> None:
        """Raises Busy when `most` requests are waiting or running already."""
        if self._pending >= most:
            raise Busy(self._pending, retry_after_s(self._pending, self.sample_s))

    async def answer(
        self, tensors: Mapping[str, NDArray[Any]], count: int, deadline_s: float = math.inf, asker: Asker | None = None
    ) -> Ran:
        """The outputs for `count` samples. Raises Late where they were not begun before `deadline_s`."""
        ran = self.at_once(tensors, count)
        return await self.in_turn(tensors, count, deadline_s, asker) if ran is None else ran

    def at_once(self, tensors: Mapping[str, NDArray[Any]], count: int, client: object = None) -> Ran | None:
        """The outputs where this is short work and nothing is ahead of it; None where it belongs in a thread."""
        if self._batcher is not None:
            return None
        self._crowd.asks(client, self._pending)
        if self.at_most > 1 and self._crowd.is_here:
            return None
        usual_samples = _elements(tensors) / self._sample_elements
        if not runs_inline(self.sample_s * usual_samples, self._pending, self._crowd.inline_limit_s):
            return None
        ran = run(self.predictor, tensors, count)
        self._crowd.ended_s = perf_counter()
        self._learn((ran.pre_s + ran.infer_s + ran.post_s) / usual_samples)
        return ran

    async def in_turn(
        self, tensors: Mapping[str, NDArray[Any]], count: int, deadline_s: float = math.inf, asker: Asker | None = None
    ) -> Ran:
        """The outputs, as `begin` has them. Raises what it tells."""
        future = asyncio.get_running_loop().create_future()
        self.begin(partial(settle, future), tensors, count, deadline_s, asker)
        return await future  # type: ignore[no-any-return]

    def begin(
        self,
        done: Done,
        tensors: Mapping[str, NDArray[Any]],
        count: int,
        deadline_s: float = math.inf,
        asker: Asker | None = None,
    ) -> None:
        """`done` gets the outputs, by a thread of the model, begun in the order in which requests came.

        It gets Late where that was not before `deadline_s`, a moment of perf_counter(), or `asker` was gone by then;
        else what the model raised.
        """
        if self._batcher is not None:
            self._batcher.add(partial(self._ended, done), tensors, count, deadline_s, asker)
        else:
            ended = partial(self._ran, done, _elements(tensors) / self._sample_elements)
            self._workers.begin(ended, self._work, tensors, count, deadline_s, asker)
        self._pending += 1

    def _ended(self, done: Done, result: Ran | BaseException) -> None:
        self._pending -= 1
        done(result)

    def _ran(self, done: Done, usual_samples: float, result: Ran | BaseException) -> None:
        if isinstance(result, Ran):
            self._learn((result.pre_s + result.infer_s + result.post_s) / usual_samples)
        self._ended(done, result)

    async def decoded(self, images: Sequence[bytes], most_bytes: int) -> dict[str, NDArray[Any]]:
        """The pictures as the tensor of the model's only input, by its thread. Raises WrongInput for what is none."""
        self._pending += 1
        try:
            return await self._workers.run(self._decode, images, most_bytes)  # type: ignore[no-any-return]
        finally:
            self._pending -= 1

    def _decode(self, images: Sequence[bytes], most_bytes: int) -> dict[str, NDArray[Any]]:
        (port,) = self.signature.inputs.values()
        channels = port.shape[3] if port.shape[3] > 0 else 3
        pictures: list[NDArray[Any]] = []
        for image in images:
            left = most_bytes - sum(picture.nbytes for picture in pictures)
            pictures.append(decode_image(BytesIO(image), f"input {port.name!r}", channels=channels, most_bytes=left))
        if len({picture.shape for picture in pictures}) > 1:
            raise WrongInput(f"input {port.name!r}: the pictures of one request have one size; ask for each alone")
        tensor = np.stack(pictures)
        check(port.name, port.datatype, tensor.shape, self.signature, {})
        return {port.name: tensor}

    def _learn(self, seconds: float) -> None:
        """A moving mean: a device that gets hot, or busy with other work, moves from inline to the thread by itself."""
        self.sample_s = learned(self.sample_s, seconds)

    def _work(self, tensors: Mapping[str, NDArray[Any]], count: int, deadline_s: float, asker: Asker | None) -> Ran:
        if perf_counter() > deadline_s or (asker is not None and asker.gone):
            raise Late
        thread = get_ident()
        self._working.add(thread)
        try:
            return run(self.predictor, tensors, count)
        finally:
            self._working.discard(thread)


class Crowd:
    """Who asks a model: one client alone, several by turns, or a crowd that keeps it busy."""

    def __init__(self) -> None:
        self.ended_s = 0.0
        self._client: object = None
        self._score = self._again = 0
        self._latest: deque[int] = deque(maxlen=4 * _FEW)
        self._unknown = counted(-1, -1)

    def asks(self, client: object, pending: int) -> None:
        """A request of `client`, while `pending` others wait or run."""
        is_same = client is not None and client is self._client  # None: nobody knows whose it is
        waited = pending > 0 or (not is_same and perf_counter() - self.ended_s < _NEXT_S)
        self._client = client
        self._latest.append(next(self._unknown) if client is None else id(client))
        self._again = min(self._again + 1, _SURE) if is_same else 0
        self._score = min(self._score + 1, _SURE) if waited else max(self._score - 2, 0)

    @property
    def is_here(self) -> bool:
        """Many others wait whenever a request was answered: then threads do the work, one on each CPU."""
        return self._score > _SURE // 2 and len(set(self._latest)) > _FEW

    @property
    def inline_limit_s(self) -> float:
        """Nobody waits but for health checks where one client asks again and again."""
        return ALONE_LIMIT_S if self._again == _SURE else INLINE_LIMIT_S


def runs_at_once(predictor: Predictor, threads: int | None) -> int:
    """How many runs of the model may be under way at a time: two where its session allows and there are CPUs for both.
    The memory and the CPUs that a unit has are for no more."""
    may = getattr(predictor.session, "concurrent", False)
    return 2 if may and len(os.sched_getaffinity(0)) >= 2 * max(1, threads or 1) else 1


def learned(expected_s: float, seconds: float) -> float:
    """What is expected after a run of so many seconds. One late run counts little: the CPU was somebody else's, and
    clients that are never all answered would keep work in the thread for good."""
    return seconds if expected_s == math.inf else 0.9 * expected_s + 0.1 * min(seconds, _LATE * expected_s)


def runs_inline(expected_s: float, ahead: int, limit_s: float = INLINE_LIMIT_S) -> bool:
    """Whether work is done in the event loop: it is short, and no other work of this model is under way."""
    return expected_s < limit_s and ahead == 0


def retry_after_s(waiting: int, sample_s: float) -> int:
    """Whole seconds until a queue of `waiting` requests has moved, between 1 and 60."""
    expected = waiting * sample_s
    return 60 if expected > 60 else max(1, math.ceil(expected))


def _elements(tensors: Mapping[str, NDArray[Any]]) -> int:
    return sum(value.size for value in tensors.values())


def _timed(predictor: Predictor, tensors: Mapping[str, NDArray[Any]]) -> float:
    began = perf_counter()
    run(predictor, tensors, 1)
    return perf_counter() - began


def without_batch(spec: TensorSpec) -> TensorSpec:
    """A session's spec as it is for one sample."""
    return TensorSpec(name=spec.name, dtype=spec.dtype, shape=spec.shape[1:])
