"""Structured pruning: whole channels leave, by their worth for the loss, and the smaller network learns again.

Worth is the first-order Taylor term, |weight × gradient| summed over a channel (Molchanov and others, 2019). Training
is by labels and by the answers of the network as it was (Hinton and others, 2015).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch.nn import functional

from edgeward.infer import Predictor
from edgeward.kit.errors import WrongInput
from edgeward.measure.dataset import LoadedSet
from edgeward.measure.isolated import IsolatedSession
from edgeward.optimize import passes
from edgeward.optimize.inspect import describe
from edgeward.optimize.training.channels import Channels, Group, prepared
from edgeward.optimize.training.network import Network, check_trainable
from edgeward.records.candidate import Step
from edgeward.records.model import Preprocess

_BATCH = 64
_LEARNING_RATE = 0.02
_TEMPERATURE = 3.0
_WORTH_BATCHES = 24
_LEAST_SHARE = 0.25
"""A layer keeps at least this share of its channels: one that is nearly closed cannot be learned open again."""
_STEP = 8
"""Channels leave in such numbers, as kernels like them."""


class Progress(Protocol):
    def stage(self, text: str, done: float) -> None: ...


class Pruned(NamedTuple):
    """The smaller model and what it took. `macs` are before and after; `scores` the share right after each epoch on
    samples that were set aside, the first one of the model as it was, the second before any training."""

    model: onnx.ModelProto
    macs: tuple[int, int]
    scores: tuple[float, ...]


class Samples(NamedTuple):
    """Input tensors with their labels, those to learn from and those set aside."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]
    aside_inputs: NDArray[np.float32]
    aside_labels: NDArray[np.int64]


def prune(
    model: onnx.ModelProto, name: str, samples: Samples, *, keep: float, epochs: int, seed: int, progress: Progress
) -> Pruned:
    """The model with about `keep` of its multiply-accumulates. Raises Unsupported for what cannot be trained."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    simple = passes.load("simplify").apply(model, Step(use="simplify"), passes.Context([], "tensor", ())).model
    check_trainable(simple, name)
    whole = prepared(simple)
    teacher = Network(whole).eval()
    progress.stage("how much each channel matters", 0.02)
    slim = _smaller(whole, teacher, samples, keep)
    network = Network(slim)
    network.eval()
    batches = [_tensor(samples.inputs[start : start + _BATCH]) for start in range(0, 16 * _BATCH, _BATCH)]
    here = network.statistics([batch for batch in batches if len(batch)])
    network.insert_norms(here, here)
    scores = [accuracy(teacher, samples), accuracy(network, samples)]
    best = network.to_onnx()
    for epoch in range(epochs):
        told = f"epoch {epoch + 1} of {epochs}, {scores[-1]:.4f} right so far (as given {scores[0]:.4f})"
        for share in _epoch(network, teacher, samples, epoch, epochs, seed):
            progress.stage(told, 0.05 + 0.9 * (epoch + share) / epochs)
        scores.append(accuracy(network, samples))
        if scores[-1] >= max(scores[2:]):
            best = network.to_onnx()
    macs = [describe(one).macs or 0 for one in (whole, best)]
    return Pruned(best, (macs[0], macs[1]), tuple(scores))


def read_samples(model: onnx.ModelProto, data: LoadedSet, preprocess: Preprocess, folder: Path, seed: int) -> Samples:
    """The data set as input tensors, a tenth of it set aside. Raises WrongInput without class labels."""
    if data.labels is None or data.labels.dtype.kind not in "iu" or len(set(data.labels.tolist())) < 2:
        raise WrongInput(f"{data.name}: training learns from class labels of two or more classes")
    if len(data) < 2 * _BATCH:
        raise WrongInput(f"{data.name}: {len(data)} samples are too few to learn from; wanted {2 * _BATCH} or more")
    file = folder / "given.onnx"
    file.write_bytes(model.SerializeToString())
    with IsolatedSession(str(file), "onnxruntime", 1) as session:
        predictor = Predictor(session, preprocess=preprocess)
        name = session.inputs[0].name
        tensors = np.stack([predictor.tensors(sample)[name] for sample in data]).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(data))
    aside, rest = order[: len(data) // 10], order[len(data) // 10 :]
    labels = data.labels.astype(np.int64)
    return Samples(tensors[rest], labels[rest], tensors[aside], labels[aside])


def accuracy(network: Network, samples: Samples) -> float:
    """Share right on the samples that were set aside."""
    was_training = network.training
    network.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(samples.aside_labels), 256):
            scores = network(_tensor(samples.aside_inputs[start : start + 256]))[0]
            right += int((scores.argmax(1).numpy() == samples.aside_labels[start : start + 256]).sum())
    network.train(was_training)
    return right / len(samples.aside_labels)


def _smaller(whole: onnx.ModelProto, teacher: Network, samples: Samples, keep: float) -> onnx.ModelProto:
    """Takes the least worthy channels, a few at a time, until no more than `keep` of the work is left."""
    channels = Channels(whole)
    groups = channels.groups()
    worth = _worth(channels, teacher, samples)
    target = keep * (describe(whole).macs or 0)
    gone: set[int] = set()
    left = {
        group.name: [int(label) for label in sorted(group.free, key=lambda label: worth[int(label)])]
        for group in groups
    }
    model = whole
    while (describe(model).macs or 0) > target:
        group = _cheapest(groups, left, worth)
        if group is None:
            break
        leaving, left[group.name] = left[group.name][:_STEP], left[group.name][_STEP:]
        gone.update(leaving)
        model = channels.without(gone)
    return model


def _cheapest(groups: list[Group], left: dict[str, list[int]], worth: dict[int, float]) -> Group | None:
    """The group whose next few channels are worth least; None when every layer is down to its least width."""
    open_groups = [
        group for group in groups
        if len(left[group.name]) - _STEP >= _LEAST_SHARE * group.size and len(left[group.name]) > _STEP
    ]  # fmt: skip
    return min(open_groups, key=lambda group: sum(worth[label] for label in left[group.name][:_STEP]), default=None)


def _worth(channels: Channels, teacher: Network, samples: Samples) -> dict[int, float]:
    """Per channel the sum of |weight × gradient| over the weights that make it."""
    total: dict[int, float] = {}
    for start in range(0, min(len(samples.labels), _WORTH_BATCHES * _BATCH), _BATCH):
        teacher.zero_grad()
        scores = teacher(_tensor(samples.inputs[start : start + _BATCH]))[0]
        functional.cross_entropy(scores, torch.from_numpy(samples.labels[start : start + _BATCH])).backward()
        gradients = teacher.gradients()
        for item in channels.slices():
            if item.makes and item.weight in gradients:
                parts = np.abs(channels.weights[item.weight] * gradients[item.weight])
                sums = parts.sum(axis=tuple(axis for axis in range(parts.ndim) if axis != item.axis))
                for label, value in zip(item.labels, sums, strict=True):
                    total[int(label)] = total.get(int(label), 0.0) + float(value)
    teacher.zero_grad()
    return {int(label): total.get(int(label), 0.0) for group in channels.groups() for label in group.free}


def _epoch(network: Network, teacher: Network, samples: Samples, epoch: int, epochs: int, seed: int) -> Iterator[float]:
    """One pass over the samples; yields how much of it is done."""
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(samples.labels))
    optimizer = torch.optim.SGD(network.parameters(), lr=_LEARNING_RATE, momentum=0.9, weight_decay=1e-4, nesterov=True)
    steps = -(-len(order) // _BATCH)
    network.train()
    for step, rows in enumerate(np.array_split(order, steps)):
        at = (epoch + step / steps) / epochs
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * min(1.0, at * epochs * 5 + 0.05) * 0.5 * (1 + np.cos(np.pi * at))
        batch = _tensor(samples.inputs[rows])
        with torch.no_grad():
            wanted = functional.softmax(teacher(batch)[0] / _TEMPERATURE, dim=1)
        scores = network(batch)[0]
        loss = 0.5 * functional.cross_entropy(scores, torch.from_numpy(samples.labels[rows]))
        loss = loss + 0.5 * _TEMPERATURE**2 * functional.kl_div(
            functional.log_softmax(scores / _TEMPERATURE, dim=1), wanted, reduction="batchmean"
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            yield step / steps


def _tensor(values: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
