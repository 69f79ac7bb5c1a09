"""Distillation: a small network of another shape learns from labels and from the answers of a larger one.

Soft answers at a raised temperature, beside the labels (Hinton and others, 2015). The teacher is only run, so that its
operators do not matter.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from edgeward.kit.errors import GateMissed, Unsupported
from edgeward.measure import bench
from edgeward.measure.jobs import Contender
from edgeward.optimize.training.export import Dressed, to_onnx
from edgeward.optimize.training.prune import Samples
from edgeward.optimize.training.students import Plan, build, cost
from edgeward.records.model import TensorSpec
from edgeward.records.target import Budget

_BATCH = 64
_LEARNING_RATE = 2e-3
_TEMPERATURE = 3.0
_SOFT_SHARE = 0.7
_WIDTHS = (2.0, 1.5, 1.25, 1.0, 0.75, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05)


class Progress(Protocol):
    def stage(self, text: str, done: float) -> None: ...


class Distilled(NamedTuple):
    """The student and its curve: the share right of the samples set aside after each epoch, beside the teacher's."""

    model: onnx.ModelProto
    width: float
    macs: int
    teacher_score: float
    scores: tuple[float, ...]
    stopped: bool


class Answer(NamedTuple):
    """What a student takes and gives, as its teacher does."""

    input: TensorSpec
    output: str
    probabilities: bool


def distill(
    teacher: onnx.ModelProto, name: str, samples: Samples, *, student: str, budget: Budget, max_macs: int | None,
    epochs: int, seed: int, progress: Progress,
) -> Distilled:  # fmt: skip
    """The widest student within the budget, trained. Ctrl-C ends the training with the best epoch so far.

    Raises GateMissed when the narrowest is over the budget, Unsupported for a teacher that is no classifier.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    progress.stage("what the teacher says", 0.01)
    taught = _answers(teacher, samples.inputs)
    if taught.ndim != 2 or taught.shape[1] < 2:
        raise Unsupported(f"{name}: a student learns from scores of two or more classes; it gives {taught.shape[1:]}")
    answer = _answer(teacher, samples)
    logits = np.log(np.maximum(taught, 1e-7)) if answer.probabilities else taught
    right = _answers(teacher, samples.aside_inputs).argmax(1) == samples.aside_labels
    progress.stage("the widest student within the budget", 0.03)
    width, network, macs = _widest(student, answer, samples, taught.shape[1], budget, max_macs, seed)
    best, scores, stopped = {}, [], False
    learner = _dressed(network, answer, scores=True)
    learning = _learn(learner, logits, samples, epochs, seed)
    try:
        for epoch, share in learning:
            if share < 1:
                told = f", {scores[-1]:.4f} right so far" if scores else ""
                progress.stage(f"epoch {epoch + 1} of {epochs}{told} (teacher {right.mean():.4f})",
                               0.05 + 0.9 * (epoch + share) / epochs)  # fmt: skip
                continue
            scores.append(_score(learner, samples))
            if scores[-1] >= max(scores):
                best = {key: value.clone() for key, value in network.state_dict().items()}
    except KeyboardInterrupt:
        if not best:
            raise
        stopped = True
    network.load_state_dict(best)
    model = to_onnx(_dressed(network, answer), answer.input, answer.output)
    return Distilled(model, width, macs, float(right.mean()), tuple(scores), stopped)


def _answers(model: onnx.ModelProto, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of the first output, in batches where the model takes them."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    spec = session.get_inputs()[0]
    step = spec.shape[0] if isinstance(spec.shape[0], int) else _BATCH
    parts = [session.run(None, {spec.name: inputs[at : at + step]})[0] for at in range(0, len(inputs), step)]
    return np.concatenate(parts).astype(np.float32)


def _answer(model: onnx.ModelProto, samples: Samples) -> Answer:
    spec = TensorSpec(name=model.graph.input[0].name, dtype="float32", shape=("batch", *samples.inputs.shape[1:]))
    output = model.graph.output[0].name
    last = next((node.op_type for node in model.graph.node if output in node.output), "")
    return Answer(spec, output, last == "Softmax")


def _layout(answer: Answer) -> tuple[bool, tuple[int, int, int]]:
    """Whether channels come last, and channels, height and width."""
    shape = answer.input.shape[1:]
    if len(shape) == 2:
        return False, (1, int(shape[0]), int(shape[1]))
    if len(shape) != 3:
        raise Unsupported(f"a student takes images or spectrograms; the teacher's input has the shape {shape}")
    first, middle, last = (int(size) for size in shape)
    return (True, (last, first, middle)) if last < first else (False, (first, middle, last))


def _dressed(network: nn.Module, answer: Answer, *, scores: bool = False) -> Dressed:
    """The network as its teacher is called; giving plain scores while it learns."""
    last, _ = _layout(answer)
    flat = len(answer.input.shape) == 3
    return Dressed(network, channels_last=last, flat=flat, probabilities=answer.probabilities and not scores)


def _widest(
    student: str, answer: Answer, samples: Samples, classes: int, budget: Budget, max_macs: int | None, seed: int
) -> tuple[float, nn.Module, int]:
    """The widest one within every limit: what can be counted is counted, a time is measured."""
    _, (channels, height, width) = _layout(answer)
    nearest = ""
    for multiplier in _WIDTHS:
        plan = Plan(channels, height, width, classes, multiplier)
        torch.manual_seed(seed)
        network = build(student, plan)
        macs, parameters = cost(network, plan)
        nearest = f"{macs:,} multiply-accumulates, about {4 * parameters:,} bytes"
        if max_macs is not None and macs > max_macs:
            continue
        if budget.bundle_bytes is not None and 4 * parameters > budget.bundle_bytes:
            continue
        if budget.latency_p50_ms is not None:
            p50_ms = _p50_ms(network, answer, samples, seed)
            nearest += f", p50 {p50_ms:.3f} ms"
            if p50_ms > budget.latency_p50_ms:
                continue
        return multiplier, network, macs
    raise GateMissed(f"no {student} is within the budget; the narrowest has {nearest}",
                     hint="a wider budget, or another --student")  # fmt: skip


def _p50_ms(network: nn.Module, answer: Answer, samples: Samples, seed: int) -> float:
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        file = Path(folder) / "student.onnx"
        file.write_bytes(to_onnx(_dressed(network, answer), answer.input, answer.output).SerializeToString())
        feeds = bench.save_feeds(Path(folder) / "feeds.npz", [{answer.input.name: row} for row in samples.inputs[:8]])
        times = bench.race([Contender(str(file), "onnxruntime", 1, str(feeds))], seconds=1, seed=seed)
    return float(np.median(times[0]))


def _learn(
    network: nn.Module, logits: NDArray[np.float32], samples: Samples, epochs: int, seed: int
) -> Iterator[tuple[int, float]]:
    """Trains; yields the epoch and how much of it is done, 1 at its end."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=1e-2)
    steps = -(-len(samples.labels) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE * 2, total_steps=steps * epochs + 1)
    for epoch in range(epochs):
        network.train()
        order = np.random.default_rng((seed, epoch)).permutation(len(samples.labels))
        for step, rows in enumerate(np.array_split(order, steps)):
            scores = network(torch.from_numpy(samples.inputs[rows]))
            loss = (1 - _SOFT_SHARE) * functional.cross_entropy(scores, torch.from_numpy(samples.labels[rows]))
            loss = loss + _SOFT_SHARE * _TEMPERATURE**2 * functional.kl_div(
                functional.log_softmax(scores / _TEMPERATURE, dim=1),
                functional.softmax(torch.from_numpy(logits[rows]) / _TEMPERATURE, dim=1), reduction="batchmean",
            )  # fmt: skip
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 10 == 0:
                yield epoch, step / steps
        yield epoch, 1.0


def _score(network: nn.Module, samples: Samples) -> float:
    network.eval()
    with torch.no_grad():
        parts = [
            network(torch.from_numpy(samples.aside_inputs[at : at + 256])).argmax(1).numpy()
            for at in range(0, len(samples.aside_labels), 256)
        ]
    return float((np.concatenate(parts) == samples.aside_labels).mean())
