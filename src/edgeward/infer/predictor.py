"""One model with the steps around it: raw sample in, answer out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import maps
from edgeward.infer import postprocess as post
from edgeward.infer.answer import Answer
from edgeward.infer.geometry import Placement, image_size, placement_of
from edgeward.infer.markers import ASKED, WORDS, framed
from edgeward.infer.preprocess import Preprocessor
from edgeward.infer.runtimes.base import Session, Single
from edgeward.kit.errors import EdgewardError, Unsupported, WrongInput
from edgeward.records.model import (
    Anomaly,
    CenterCrop,
    Crop,
    Detect,
    Keypoints,
    Postprocess,
    Preprocess,
    Resize,
    Segment,
    TensorSpec,
)

Sample = Mapping[str, NDArray[Any]]
"""One array per model input, without a batch axis, before preprocessing."""

_Group = list[dict[str, NDArray[Any]]]
"""The model's input tensors of samples that run together."""


_LARGEST_BATCH_BYTES = 2_000_000_000
_AHEAD_BYTES = 16_000_000
_MOST_AHEAD = 128
_PLACEMENTS = 16
_COMPARED = 4
_SAME = 1e-4
"""Sums in another order differ by less, a value rounded to another int8 step by more."""


class Predictor:
    """Runs `session` on raw samples. Preprocessing applies to the first input, postprocessing to the first output,
    or to the first two where boxes and scores are a pair. `detects` is the step that reads boxes, None without one;
    `finds` says whether any step finds something in a sample: boxes, points, a mask, an anomaly. `completed` counts
    the runs of the model that ended well: the proof that it goes on."""

    def __init__(
        self,
        session: Session,
        *,
        preprocess: Preprocess = (),
        postprocess: Postprocess = (),
        labels: Sequence[str] = (),
        folded: Preprocess = (),
    ) -> None:
        if preprocess and len(session.inputs) != 1:
            raise WrongInput(f"preprocessing steps serve models with one input; this one has {len(session.inputs)}")
        self.session = session
        self.completed = 0
        self._prepare = Preprocessor(preprocess) if preprocess else None
        self.preprocess = preprocess
        self._unchanged: tuple[int, ...] | None = None
        self.postprocess = postprocess
        self.detects = next((step for step in postprocess if isinstance(step, Detect)), None)
        self._labels = labels
        self._slots = tuple((spec.name, _dtype_of(spec), spec.shape[1:], _size(spec)) for spec in session.inputs)
        self._names = tuple(spec.name for spec in session.outputs)
        self._first = self._names[0] if self._names else ""
        first = session.inputs[0].shape[:1] if session.inputs else ()
        self._fixed = first[0] if first and isinstance(first[0], int) else None
        self._alone = self._fixed in (None, 1)
        self._together: bool | None = True if self._fixed else None
        self._single: Single | None = getattr(session, "single", None)
        self._classes = post.classifier(postprocess, labels)
        self._maps = tuple(step for step in postprocess if isinstance(step, Segment | Keypoints))
        self._anomaly = next((step for step in postprocess if isinstance(step, Anomaly)), None)
        self._enters = Preprocessor((*preprocess, *folded))
        self.finds = self.detects is not None or bool(self._maps) or self._anomaly is not None
        self._placements: dict[tuple[int, int], Placement] = {}

    def answer(self, sample: Sample) -> Answer:
        """The answer to one sample. Raises WrongInput when the sample does not fit the model."""
        start = perf_counter_ns()
        single = self._single
        if single is not None and (tensor := sample.get(single.name)) is not None:
            if self._prepare is not None and tensor.shape != self._unchanged:
                tensor = self._prepared(tensor, self._prepare)
            if tensor.shape == single.shape and tensor.dtype == single.dtype:
                ready = perf_counter_ns()
                values = framed(single.run, tensor) if WORDS[ASKED] else single.run(tensor)
                done = perf_counter_ns()
                self.completed += 1
                if not self.finds and len(values) == 1:  # no call more than it takes
                    value = values[0]
                    classes = () if self._classes is None else self._classes(value)
                    end = perf_counter_ns()
                    return Answer(
                        {self._first: value}, classes, (ready - start) / 1e6, (done - ready) / 1e6, (end - done) / 1e6
                    )
                return self._answer(sample, values, start, ready, done)
        tensors = self.tensors(sample)
        feeds = {name: tensor[None] for name, tensor in tensors.items()} if self._alone else self._batched([tensors])
        ready = perf_counter_ns()
        values = framed(self.session.run, feeds) if WORDS[ASKED] else self.session.run(feeds)
        self.completed += 1
        return self._answer(sample, [_lone(value) for value in values], start, ready, perf_counter_ns())

    def _prepared(self, raw: NDArray[Any], prepare: Preprocessor) -> NDArray[Any]:
        """Remembers the shape of frames that need no change of place or size: to find that out takes 15 µs each."""
        tensor = prepare(raw)
        if tensor is raw and all(isinstance(step, Resize | CenterCrop | Crop) for step in self.preprocess):
            self._unchanged = raw.shape
        return tensor

    def _answer(self, sample: Sample, values: list[NDArray[Any]], start: int, ready: int, done: int) -> Answer:
        outputs = dict(zip(self._names, values, strict=True))
        classes = () if self._classes is None else self._classes(values[0])
        seen = self._seen(sample, values)
        end = perf_counter_ns()
        return Answer(outputs, classes, (ready - start) / 1e6, (done - ready) / 1e6, (end - done) / 1e6, **seen)

    def read(self, sample: Sample, outputs: Sequence[NDArray[Any]]) -> Answer:
        """What the steps find by these outputs (no batch axis) in a raw sample. Its classes and times are empty."""
        return Answer({}, (), 0.0, 0.0, 0.0, **self._seen(sample, outputs))

    def _seen(self, sample: Sample, values: Sequence[NDArray[Any]]) -> dict[str, Any]:
        """The fields of an answer that say what is where in the sample, and how unlike others it is."""
        if not self.finds:
            return {}
        found: dict[str, Any] = {}
        raw = next(iter(sample.values()))
        if self.detects is not None or self._maps:
            found["size"] = size = image_size(raw.shape)
        if self.detects is not None:
            found["boxes"] = post.boxes_of(self.detects, values, self._labels, self._placement(size), size)
        for step in self._maps:
            placed = self._placement(found["size"])
            if isinstance(step, Keypoints):
                found["keypoints"] = maps.keypoints_of(step, values[0], self._labels, placed)
            else:
                found["mask"] = maps.mask_of(step, values[0], placed, found["size"])
                found["segments"] = maps.segments_of(step, found["mask"], self._labels)
        if self._anomaly is not None:
            entered = None if self._anomaly.of == "output" else self._enters(raw)
            found["anomaly"] = maps.verdict_of(self._anomaly, values[0], entered)
        return found

    def _placement(self, size: tuple[int, int]) -> Placement:
        found = self._placements.get(size)
        if found is None:
            # Images come in one size, or a few; a stream that changes it all the time is not kept.
            if len(self._placements) >= _PLACEMENTS:
                self._placements.clear()
            found = self._placements[size] = placement_of(self.preprocess, *size)
        return found  # another thread may have cleared them by now

    def tensors(self, sample: Sample) -> dict[str, NDArray[Any]]:
        """The model's input tensors for one sample, without a batch axis."""
        feeds = {}
        for name, dtype, shape, size in self._slots:
            if name not in sample:
                raise WrongInput(f"the sample has no array {name!r}; it has {', '.join(sample) or 'none'}")
            tensor = sample[name] if self._prepare is None else self._prepare(sample[name])
            if tensor.dtype != dtype:
                tensor = _cast(name, tensor, dtype)
            if tensor.shape != shape:
                tensor = _shaped(name, tensor, shape, size)
            feeds[name] = tensor
        return feeds

    def outputs_of(self, samples: Iterable[Sample], *, batch: int = 32) -> Iterator[tuple[NDArray[Any], ...]]:
        """Batched raw outputs (no postprocessing) over many samples, in order; one tuple of arrays per batch.

        A model with a fixed batch size is fed batches of that size, the last one padded by repetition. One with a
        free batch is fed `batch` samples at once where that gives the answers that they get alone, as on a device;
        else, and where their shapes differ, one by one.
        """
        waiting: list[_Group] = []
        for group in self._groups(samples, batch):
            waiting.append(group)
            if len(waiting) >= self._ahead(group):
                yield from self._run_each(waiting)
                waiting = []
        if waiting:
            yield from self._run_each(waiting)

    def _groups(self, samples: Iterable[Sample], batch: int) -> Iterator[_Group]:
        """The tensors of samples that run together."""
        iterator = iter(samples)
        size = self._fixed or batch
        together: bool | None = True if self._fixed else None
        while group := [self.tensors(sample) for sample in islice(iterator, size)]:
            alike = all(tensors[name].shape == tensor.shape for tensors in group for name, tensor in group[0].items())
            if together is None and alike and len(group) > 1:
                together = self._are_alike_together(group)
            if together is not False and alike:
                yield group
            else:
                yield from ([tensors] for tensors in group)

    def _ahead(self, group: _Group) -> int:
        """How many groups of this size the session is asked for at once."""
        if not hasattr(self.session, "run_each"):
            return 1
        size = len(group) * sum(tensor.nbytes for tensor in group[0].values())
        return max(1, min(_MOST_AHEAD, _AHEAD_BYTES // max(1, size)))

    def _run_each(self, groups: Sequence[_Group]) -> Iterator[tuple[NDArray[Any], ...]]:
        run_each = getattr(self.session, "run_each", None)
        if run_each is None or len(groups) == 1:
            yield from (self._run(group) for group in groups)
            return
        found = run_each([self._batched(group) for group in groups])
        self.completed += len(groups)
        yield from (self._rows(values, len(group)) for values, group in zip(found, groups, strict=True))

    def answers(self, samples: Sequence[Sample]) -> list[Answer]:
        """The answers to several samples that run together, as far as the model takes them so; the times of each are
        those of all. Raises WrongInput when one of them does not fit the model."""
        start = perf_counter_ns()
        group = [self.tensors(sample) for sample in samples]
        ready = perf_counter_ns()
        rows = self._rows_of(group)
        done = perf_counter_ns()
        found = [
            (
                dict(zip(self._names, values, strict=True)),
                () if self._classes is None else self._classes(values[0]),
                self._seen(sample, values),
            )
            for sample, values in zip(samples, rows, strict=True)
        ]
        times = (ready - start) / 1e6, (done - ready) / 1e6, (perf_counter_ns() - done) / 1e6
        return [Answer(outputs, classes, *times, **seen) for outputs, classes, seen in found]

    def _rows_of(self, group: Sequence[dict[str, NDArray[Any]]]) -> list[list[NDArray[Any]]]:
        """Each sample's outputs, without a batch axis. Whether they may run together is tried once."""
        alike = all(tensors[name].shape == tensor.shape for tensors in group for name, tensor in group[0].items())
        if self._together is None and alike and len(group) > 1:
            self._together = self._are_alike_together(group)
        size = (self._fixed or len(group)) if alike and self._together is not False else 1
        batches = [self._run(group[start : start + size]) for start in range(0, len(group), size)]
        return [[value[row] for value in values] for values in batches for row in range(len(values[0]))]

    def _run(self, group: Sequence[dict[str, NDArray[Any]]]) -> tuple[NDArray[Any], ...]:
        feeds = self._batched(group)
        values = framed(self.session.run, feeds) if WORDS[ASKED] else self.session.run(feeds)
        self.completed += 1
        return self._rows(values, len(group))

    def _rows(self, values: Sequence[NDArray[Any]], count: int) -> tuple[NDArray[Any], ...]:
        return tuple(_rows(name, value, count) for name, value in zip(self._names, values, strict=True))

    def _batched(self, group: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        missing = (self._fixed or 0) - len(group)
        if missing > 0:
            _check_room(missing, group[-1])
        padded = [*group, *[group[-1]] * missing]
        return {name: np.stack([tensors[name] for tensors in padded]) for name in group[0]}

    def _are_alike_together(self, group: Sequence[dict[str, NDArray[Any]]]) -> bool:
        """Whether the first few samples are answered in a batch as they are alone. They are not where a model was
        exported for one sample in truth, or takes a value range over all samples of a batch (dynamic int8)."""
        alone = [self._run([tensors]) for tensors in group[:_COMPARED]]
        try:
            together = self._run(group)
        except EdgewardError:
            return False
        return all(
            _are_close(np.asarray(one[0]), np.asarray(output[row])) for row, ones in enumerate(alone)
            for one, output in zip(ones, together, strict=True)
        )  # fmt: skip


def _lone(value: NDArray[Any]) -> NDArray[Any]:
    """The answer to the only sample; that of one string as an array of it, as numbers come."""
    if value.ndim == 0:
        return value
    return np.asarray(value[0]) if value.dtype == object else value[0]


def _are_close(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool((one == other).all())
    scale = np.abs(one[np.isfinite(one)]).max(initial=0)
    return bool(np.allclose(one, other, rtol=_SAME, atol=_SAME * scale, equal_nan=True))


def _dtype_of(spec: TensorSpec) -> np.dtype[Any]:
    if spec.dtype == "bfloat16":
        hint = "export it with a float32 input"
        raise Unsupported(f"input {spec.name!r} is bfloat16, which samples cannot be turned into", hint=hint)
    return np.dtype("object" if spec.dtype == "string" else spec.dtype)


def _size(spec: TensorSpec) -> int | None:
    """Elements of one sample, None where a dimension is free."""
    product = 1
    for dim in spec.shape[1:]:
        if isinstance(dim, str):
            return None
        product *= dim
    return product


def _check_room(batch: int, tensors: Mapping[str, NDArray[Any]]) -> None:
    size = batch * sum(tensor.nbytes for tensor in tensors.values())
    if size > _LARGEST_BATCH_BYTES:
        raise Unsupported(f"the model takes {batch} samples at once, {size / 1e9:.1f} GB: wanted a batch that fits")


def _rows(name: str, value: NDArray[Any], count: int) -> NDArray[Any]:
    """The first `count` answers of a batch. Raises Unsupported where the output has none for each sample."""
    if not isinstance(value, np.ndarray):
        raise Unsupported(f"output {name!r} is no tensor; sequences and maps are not supported")
    if value.ndim == 0 or len(value) < count:
        raise Unsupported(f"output {name!r} has shape {list(value.shape)} for {count} samples: it has no batch axis")
    return value[:count]


def _cast(name: str, tensor: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Into the model's dtype where no value is lost: bytes to floats, int64 to int32 in range; else WrongInput."""
    if dtype.kind in "OU" and tensor.dtype.kind in "OUS":
        return tensor.astype(object)
    if dtype.kind == "f" and tensor.dtype.kind in "fiub":
        return tensor.astype(dtype)
    if dtype.kind in "iu" and tensor.dtype.kind in "iub" and (tensor.size == 0 or _in_range(tensor, dtype)):
        return tensor.astype(dtype)
    wanted = "string" if dtype.kind == "O" else dtype
    hint = "the model takes quantised numbers: give it samples in them, as an .npz, or export it with a float32 input"
    raise WrongInput(
        f"input {name!r} is {wanted}, the sample is {tensor.dtype} and would lose values",
        hint=hint if dtype == np.int8 else None,
    )


def _in_range(tensor: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return bool(tensor.min() >= limits.min and tensor.max() <= limits.max)


def _shaped(name: str, tensor: NDArray[Any], shape: tuple[int | str, ...], size: int | None) -> NDArray[Any]:
    """The tensor in the model's shape where only axes of length 1 differ; else WrongInput."""
    if len(tensor.shape) == len(shape) and all(
        isinstance(want, str) or have == want for have, want in zip(tensor.shape, shape, strict=True)
    ):
        return tensor
    if size == tensor.size and [d for d in tensor.shape if d != 1] == [d for d in shape if d != 1]:
        return tensor.reshape([d for d in shape if isinstance(d, int)])
    wanted = "x".join(str(dim) for dim in shape) or "one number"
    got = "x".join(str(dim) for dim in tensor.shape) or "one number"
    raise WrongInput(f"input {name!r} wants {wanted} per sample, got {got}")
