"""Quantisation-aware training: weights learn to give the right answers when they and all that flows between layers is
rounded.

The rounding is that of static quantisation: symmetric weights, activations in eight unsigned bits over a range that
follows what is seen; gradients pass through it as if it were not there (Jacob and others, 2018). Batch normalisations
are folded before, so that what is rounded is what will run. The teacher is the float model; labels help where there
are any.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch.nn import functional

from edgeward.infer import Predictor
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.measure.dataset import LoadedSet
from edgeward.measure.isolated import IsolatedSession
from edgeward.optimize import passes
from edgeward.optimize.named_layers import HEAVY
from edgeward.optimize.training.channels import prepared
from edgeward.optimize.training.network import Network, check_trainable
from edgeward.optimize.training.prune import Progress
from edgeward.records.candidate import Step
from edgeward.records.model import Preprocess

_BATCH = 64
_LEAST_SAMPLES = 2 * _BATCH
_LEARNING_RATE = 0.01
"""As a share of the size of a tensor's values: weights that read raw bytes are a hundredth of others."""
_TEMPERATURE = 3.0
_SOFT_SHARE = 0.7
"""Of the loss, that part is the teacher's; the rest the labels'."""
_CALIBRATION_BATCHES = 4
_PACE = 0.05
"""How far a range moves towards that of a new batch."""
_JOINED = ("Add", "AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "Mul", "Resize")
"""Operators that are computed in integers beside those with weights. What only moves or picks values rounds nothing."""


class Rounding(NamedTuple):
    """How weights will be stored."""

    weight_bits: int = 8
    per_channel: bool = True


class Samples(NamedTuple):
    """Input tensors and class labels (None: the teacher alone teaches), those to learn from and those set aside."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    aside_inputs: NDArray[np.float32]
    aside_labels: NDArray[np.int64] | None


class Hardened(NamedTuple):
    """The float model with weights that survive rounding. Scores are of samples set aside: of the model as given in
    float, of the same rounded without training, and rounded after each epoch; the share right, or without labels the
    share of samples whose likeliest class is the float model's, or for other tasks the signal-to-noise ratio in dB of
    the rounded answers. `stopped`: by Ctrl-C, the best epoch until then was kept."""

    model: onnx.ModelProto
    measure: str
    float_score: float | None
    scores: tuple[float, ...]
    stopped: bool


class RoundedNetwork(Network):
    """Answers as the graph will when it is quantised. While it learns, the ranges of activations follow the data."""

    def __init__(self, model: onnx.ModelProto, rounding: Rounding) -> None:
        super().__init__(model)
        self._rounding = rounding
        ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer if tensor.name in self._places}
        self._axes = _weight_axes(model, ranks)
        self._rounded = _rounded_tensors(model)
        self.ranges: dict[str, tuple[float, float]] = {}
        self.settled = False

    def rounds_weights(self) -> bool:
        return bool(self._axes)

    def used(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        return rounded(weight, self._axes[name], self._rounding) if name in self._axes else weight

    def passed(self, name: str, value: Any) -> Any:
        if name not in self._rounded or not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        if self.training or not self.settled:
            self._follow(name, value.detach())
        low, high = self.ranges[name]
        scale = max(high - low, 1e-8) / 255
        return torch.fake_quantize_per_tensor_affine(value, scale, round(-low / scale), 0, 255)

    def _follow(self, name: str, value: torch.Tensor) -> None:
        low, high = min(0.0, float(value.min())), max(0.0, float(value.max()))
        if name not in self.ranges:
            self.ranges[name] = (low, high)
            return
        before = self.ranges[name]
        if self.settled:
            self.ranges[name] = (before[0] + _PACE * (low - before[0]), before[1] + _PACE * (high - before[1]))
        else:
            self.ranges[name] = (min(before[0], low), max(before[1], high))

    def to_onnx(self) -> onnx.ModelProto:
        """With the weights on the steps of their rounding: to round them again changes nothing."""
        kept = [weight.detach().clone() for weight in self.weights]
        with torch.no_grad():
            for name, place in self._places.items():
                self.weights[place].copy_(self.used(name, self.weights[place]))
            model = super().to_onnx()
            for weight, value in zip(self.weights, kept, strict=True):
                weight.copy_(value)
        return model


def rounded(weight: torch.Tensor, axis: int, rounding: Rounding) -> torch.Tensor:
    """The weight on the steps that it will be stored in, one size of step for each output or for all."""
    top = 2 ** (rounding.weight_bits - 1) - 1
    if not rounding.per_channel:
        scale = weight.detach().abs().max().clamp(min=1e-12) / top
        return torch.fake_quantize_per_tensor_affine(weight, float(scale), 0, -top, top)
    others = [place for place in range(weight.ndim) if place != axis]
    scale = weight.detach().abs().amax(others).clamp(min=1e-12) / top
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zeros, axis, -top, top)


def harden(
    model: onnx.ModelProto, name: str, samples: Samples, rounding: Rounding, *, epochs: int, seed: int,
    progress: Progress,
) -> Hardened:  # fmt: skip
    """The model with weights that survive `rounding`. Raises Unsupported for what cannot be trained."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    simple = passes.load("simplify").apply(model, Step(use="simplify"), passes.Context([], "tensor", ())).model
    check_trainable(simple, name)
    whole = prepared(simple)
    teacher, network = Network(whole).eval(), RoundedNetwork(whole, rounding).eval()
    if not network.rounds_weights():
        raise Unsupported(f"{name}: there is no Conv, Gemm or MatMul with constant weights in it that could be rounded")
    task = _Task(whole, teacher, samples)
    progress.stage("the ranges of the activations", 0.02)
    with torch.no_grad():
        for start in range(0, _CALIBRATION_BATCHES * _BATCH, _BATCH):
            if start < len(samples.inputs):
                network(_tensor(samples.inputs[start : start + _BATCH]))
    network.settled = True
    scores, best, stopped = [task.score(network)], network.to_onnx(), False
    steps = -(-len(samples.inputs) // _BATCH)
    try:
        for epoch in range(epochs):
            told = f"epoch {epoch + 1} of {epochs}, {task.measure} {max(scores):.4g} so far{task.goal}"
            for step in _epoch(network, task, samples, epoch, epochs, seed):
                progress.stage(told, 0.05 + 0.9 * (epoch + step / steps) / epochs)
            scores.append(task.score(network))
            if scores[-1] > max(scores[:-1]):
                best = network.to_onnx()
    except KeyboardInterrupt:
        if len(scores) == 1:
            raise
        stopped = True
    return Hardened(best, task.measure, task.best, tuple(scores), stopped)


def read_samples(model: onnx.ModelProto, data: LoadedSet, preprocess: Preprocess, folder: Path, seed: int) -> Samples:
    """The data set as input tensors, a tenth of it set aside; class labels where it has them."""
    if len(data) < _LEAST_SAMPLES:
        raise WrongInput(f"{data.name}: {len(data)} samples are too few to learn from; wanted {_LEAST_SAMPLES} or more")
    file = folder / "given.onnx"
    file.write_bytes(model.SerializeToString())
    with IsolatedSession(str(file), "onnxruntime", 1) as session:
        predictor = Predictor(session, preprocess=preprocess)
        name = session.inputs[0].name
        tensors = np.stack([predictor.tensors(sample)[name] for sample in data]).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(data))
    aside, rest = order[: len(data) // 10], order[len(data) // 10 :]
    labels = data.labels
    if labels is None or labels.dtype.kind not in "iu" or labels.ndim != 1:
        return Samples(tensors[rest], None, tensors[aside], None)
    return Samples(tensors[rest], labels[rest].astype(np.int64), tensors[aside], labels[aside].astype(np.int64))


class _Task:
    """What is learned from whom, and how it is scored."""

    def __init__(self, model: onnx.ModelProto, teacher: Network, samples: Samples) -> None:
        self._teacher, self._samples = teacher, samples
        first = model.graph.output[0].name
        self._probabilities = any(first in node.output and node.op_type == "Softmax" for node in model.graph.node)
        with torch.no_grad():
            answer = teacher(_tensor(samples.inputs[:2]))
        one = len(answer) == 1 and answer[0].ndim == 2 and answer[0].shape[1] > 1
        labels = samples.labels
        self._labels = labels if one and labels is not None and labels.max() < answer[0].shape[1] else None
        self._classes = self._labels is not None or (one and self._probabilities)
        self.measure = "top1" if self._labels is not None else "agreement" if self._classes else "sqnr_db"
        self.best = round(self.score(teacher), 4) if self._classes else None
        self.goal = f" (float {self.best})" if self._classes else ""

    def loss(self, network: Network, rows: NDArray[np.int64]) -> torch.Tensor:
        batch = _tensor(self._samples.inputs[rows])
        with torch.no_grad():
            wanted = self._teacher(batch)
        found = network(batch)
        if not self._classes:
            pairs = zip(found, wanted, strict=True)
            return sum(functional.mse_loss(one, goal) / goal.square().mean().clamp(min=1e-6) for one, goal in pairs)
        scores, goal = self._logits(found[0]), self._logits(wanted[0])
        soft = _TEMPERATURE**2 * functional.kl_div(
            functional.log_softmax(scores / _TEMPERATURE, 1), functional.log_softmax(goal / _TEMPERATURE, 1),
            reduction="batchmean", log_target=True,
        )  # fmt: skip
        if self._labels is None:
            return soft
        hard = functional.cross_entropy(scores, torch.from_numpy(self._labels[rows]))
        return _SOFT_SHARE * soft + (1 - _SOFT_SHARE) * hard

    def score(self, network: Network) -> float:
        """On the samples set aside; the higher the better."""
        network.eval()
        right, signal, noise = 0, 0.0, 0.0
        with torch.no_grad():
            for start in range(0, len(self._samples.aside_inputs), 256):
                batch = _tensor(self._samples.aside_inputs[start : start + 256])
                found = network(batch)
                if self._labels is not None:
                    labels = torch.from_numpy(self._samples.aside_labels[start : start + 256])
                    right += int((found[0].argmax(1) == labels).sum())
                    continue
                wanted = self._teacher(batch)
                right += int((found[0].argmax(1) == wanted[0].argmax(1)).sum()) if self._classes else 0
                signal += sum(float(goal.square().sum()) for goal in wanted)
                noise += sum(float((goal - one).square().sum()) for goal, one in zip(wanted, found, strict=True))
        if self._classes:
            return right / len(self._samples.aside_inputs)
        return float(10 * np.log10(max(signal, 1e-12) / max(noise, 1e-12 * max(signal, 1e-12))))

    def _logits(self, answer: torch.Tensor) -> torch.Tensor:
        return answer.clamp(min=1e-7).log() if self._probabilities else answer


def _epoch(network: Network, task: _Task, samples: Samples, epoch: int, epochs: int, seed: int) -> Iterator[int]:
    """One pass over the samples; yields the steps done."""
    order = np.random.default_rng((seed, epoch)).permutation(len(samples.inputs))
    steps = -(-len(order) // _BATCH)
    sizes = [max(float(weight.detach().square().mean().sqrt()), 1e-4) for weight in network.weights]
    optimizer = torch.optim.Adam(
        [{"params": [one], "lr": size} for one, size in zip(network.weights, sizes, strict=True)]
    )
    network.train()
    for step, rows in enumerate(np.array_split(order, steps)):
        at = (epoch + step / steps) / epochs
        pace = _LEARNING_RATE * min(1.0, at * epochs * 5 + 0.05) * 0.5 * (1 + np.cos(np.pi * at))
        for group, size in zip(optimizer.param_groups, sizes, strict=True):
            group["lr"] = pace * size
        loss = task.loss(network, rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            yield step


def _weight_axes(model: onnx.ModelProto, ranks: dict[str, int]) -> dict[str, int]:
    """Of each weight that is rounded, the axis of its outputs."""
    found = {}
    for node in model.graph.node:
        if node.op_type not in HEAVY or ranks.get(node.input[1], 0) < 2:
            continue
        if node.op_type == "Gemm":
            axis = 0 if any(one.name == "transB" and one.i for one in node.attribute) else 1
        else:
            axis = {"Conv": 0, "ConvTranspose": 1}.get(node.op_type, ranks[node.input[1]] - 1)
        found[node.input[1]] = axis
    return found


def _rounded_tensors(model: onnx.ModelProto) -> set[str]:
    """The activations that are rounded: what goes into and comes out of integer operators. An activation function
    behind one is computed with it, and only what comes out of that is rounded."""
    constants = {tensor.name for tensor in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = set()
    for node in model.graph.node:
        if node.op_type not in HEAVY and node.op_type not in _JOINED:
            continue
        found.update(name for name in node.input if name and name not in constants)
        behind = readers.get(node.output[0], [])
        joined = len(behind) == 1 and behind[0].op_type in ("Relu", "Clip")
        found.add(behind[0].output[0] if joined else node.output[0])
    return found


def _tensor(values: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
