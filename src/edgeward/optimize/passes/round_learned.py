"""Learned rounding: each weight goes to the grid point below or above, whichever serves the layer's output best.

After Nagel, Amjad, van Baalen, Louizos and Blankevoort, "Up or Down? Adaptive Rounding for Post-Training Quantization"
(AdaRound, ICML 2020, arXiv:2004.10568). Its objective, layer by layer, is the mean squared error of W̃·x, which is
Δw·G·Δw for each output, with G = E[x·xᵀ] over calibration samples: a choice between two values for each weight. The
paper relaxes the choice and descends with Adam; on G itself, exact descent by one weight at a time needs no learning
rate and a hundredth of the time, and stops where no single flip helps.

It runs before a pass that quantises, on the same grid (per_channel, reduce_range, bits): that pass finds the weights
on its grid already. Other samples judge against rounding to the nearest; without a gain beyond chance it steps aside.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnx

from edgeward.infer import Predictor, Sample, runtimes
from edgeward.kit.errors import WrongInput
from edgeward.optimize.nearness import share_gained
from edgeward.optimize.passes.base import Context, DoesNotApply, Pass, Passed
from edgeward.optimize.wiring import Array, Wiring, attribute, making
from edgeward.records.candidate import Step
from edgeward.records.model import Preprocess

_SAMPLES = 128
_JUDGING = 128
_FEWEST = 4
_POSITIONS = 128
"""Places of one sample's output that count; all of them would say the same again."""
_SWEEPS = 20
_LONGEST = 2304
"""Weights behind one output; longer ones are rounded to the nearest: their G would take too much memory and time."""
_GRAMS = 2**26
"""So many numbers of all G at a time, a quarter of a gigabyte: the samples run once more for the layers that remain."""
_ON_GRID = 1e-3


class Layer(NamedTuple):
    """A layer's weights as groups × outputs × inputs, the operator they belong to, and a convolution's kernel."""

    node: onnx.NodeProto
    weight: Array
    kernel: tuple[int, ...] = ()


class RoundLearned:
    """Options: per_channel (true), reduce_range (false), bits (8; 2 to 8)."""

    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:
        options = {"per_channel": True, "reduce_range": False, "bits": 8, **step.options}
        if options["bits"] not in range(2, 9):
            raise WrongInput(f"round-learned: bits is {options['bits']!r}, wanted 2 to 8")
        count = min(_SAMPLES, len(context.samples) // 2)
        learned, judging = context.samples[:count], context.samples[count : count + _JUDGING]
        if count < _FEWEST:
            raise DoesNotApply(f"{len(context.samples)} calibration samples are too few, wanted {2 * _FEWEST}")
        nearest, ours = Wiring(model), Wiring(model)
        layers = _layers(ours)
        if not layers:
            raise DoesNotApply("there is no Conv, Gemm or MatMul with constant weights in it")
        flipped = 0
        for layer, gram in _with_grams(model, layers, learned, context.preprocess):
            scale = _scale(layer.weight, bool(options["per_channel"]), _reach(options))
            plain = np.rint(layer.weight / scale)
            best = plain if gram is None else chosen(layer.weight, scale, gram.astype(np.float64))
            flipped += int((best != plain).sum())
            for wiring, values in ((nearest, plain), (ours, best)):
                _write(wiring, layer, values * scale)
        gained = share_gained(model, nearest.model, ours.model, judging, context.preprocess)
        if not gained:
            raise DoesNotApply("learned rounding would not bring the answers nearer to the float model's beyond chance")
        note = (
            f"{flipped} of {sum(layer.weight.size for layer in layers)} weights rounded the other way: on other "
            f"samples, the squared error of rounding the weights fell by {gained:.0%}"
        )
        return Passed(ours.model, context.preprocess, (note,))


def chosen(weight: Array, scale: Array, gram: Array) -> Array:
    """Whole numbers, each the one below or above weight / scale, so that no single other choice makes
    Σ Δw·G·Δw smaller. `weight` is groups × outputs × inputs, `gram` groups × inputs × inputs."""
    exact = weight / scale
    values = np.rint(exact)
    other = np.where(values > exact, values - 1, values + 1)
    other = np.where(np.abs(values - exact) < _ON_GRID, values, other)
    slope = ((values - exact) * scale) @ gram
    step = (other - values) * scale
    for _ in range(_SWEEPS):
        flips = 0
        for place in range(weight.shape[2]):
            by = step[:, :, place]
            helps = 2 * by * slope[:, :, place] + by * by * gram[:, place, place, None] < 0
            if not helps.any():
                continue
            flips += int(helps.sum())
            slope += np.where(helps, by, 0.0)[:, :, None] * gram[:, place, None, :]
            values[:, :, place] += np.where(helps, np.rint(by / scale[:, :, 0]), 0.0)
            step[:, :, place] = np.where(helps, -by, by)
        if not flips:
            break
    return values


def _reach(options: dict[str, bool | int | float | str]) -> int:
    """The largest whole number of a weight, as ONNX Runtime's symmetric grid has it."""
    bits = int(options["bits"])
    return int(2 ** (bits - 2)) if options["reduce_range"] else int(2 ** (bits - 1)) - 1


def _scale(weight: Array, per_channel: bool, reach: int) -> Array:
    largest = np.abs(weight).max(axis=2 if per_channel else None, keepdims=True)
    scale = np.where(largest > 0, largest / reach, 1.0)
    return np.asarray(np.broadcast_to(scale, (*weight.shape[:2], 1)))


def _layers(wiring: Wiring) -> list[Layer]:
    found = []
    for node in wiring.graph.node:
        weight = wiring.constant(node, 1)
        if node.op_type not in ("Conv", "Gemm", "MatMul") or weight is None or weight.dtype != np.float32:
            continue
        if node.op_type == "Conv":
            groups = attribute(node, "group", 1)
            split = weight.reshape(groups, len(weight) // groups, -1).astype(np.float64)
            found.append(Layer(node, split, weight.shape[2:]))
        elif weight.ndim == 2 and not attribute(node, "transA", 0):
            turned = bool(attribute(node, "transB", 0))
            found.append(Layer(node, (weight if turned else weight.T)[None].astype(np.float64)))
    return found


def _write(wiring: Wiring, layer: Layer, values: Array) -> None:
    node = wiring.makers[layer.node.output[0]]
    old = wiring.constant(node, 1)
    if old is not None:
        turned = node.op_type != "Conv" and not attribute(node, "transB", 0)
        new = values[0].T if turned else values.reshape(old.shape)
        wiring.set_constant(node, 1, new.astype(np.float32))


def _with_grams(
    model: onnx.ModelProto, layers: Sequence[Layer], samples: Sequence[Sample], preprocess: Preprocess
) -> Iterator[tuple[Layer, Array | None]]:
    """Each layer with E[x·xᵀ] of what its outputs are made of, None for those that are left; few at a time."""
    group: list[Layer] = []
    for layer in layers:
        if not _is_learned(layer):
            yield layer, None
            continue
        if group and sum(map(_gram_size, [*group, layer])) > _GRAMS:
            yield from _grams(model, group, samples, preprocess)
            group = []
        group.append(layer)
    if group:
        yield from _grams(model, group, samples, preprocess)


def _is_learned(layer: Layer) -> bool:
    return layer.weight.shape[2] <= _LONGEST and _is_plain(layer.node)


def _gram_size(layer: Layer) -> int:
    return int(len(layer.weight) * layer.weight.shape[2] ** 2)


def _grams(
    model: onnx.ModelProto, layers: Sequence[Layer], samples: Sequence[Sample], preprocess: Preprocess
) -> Iterator[tuple[Layer, Array]]:
    feeds = list(dict.fromkeys(layer.node.input[0] for layer in layers))
    sums = [np.zeros((len(layer.weight), *layer.weight.shape[2:] * 2), np.float32) for layer in layers]
    for values in _values(model, feeds, samples, preprocess):
        for layer, total in zip(layers, sums, strict=True):
            rows = _rows(layer, values[layer.node.input[0]])
            total += rows.transpose(0, 2, 1) @ rows
    yield from zip(layers, sums, strict=True)


def _values(
    model: onnx.ModelProto, names: Sequence[str], samples: Sequence[Sample], preprocess: Preprocess
) -> Iterator[dict[str, Array]]:
    """Values inside the model, or its inputs, sample by sample, without a batch axis."""
    inputs = {entry.name for entry in model.graph.input}
    inner = [name for name in names if name not in inputs]
    whole = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)
    prepare = Predictor(whole, preprocess=preprocess)
    if inner:
        part = runtimes.load("onnxruntime").load(making(model, inner).SerializeToString(), threads=1)
        predictor = Predictor(part, preprocess=preprocess)
    for sample in samples:
        tensors = dict(prepare.tensors(sample))
        yield tensors | (predictor.answer(sample).outputs if inner else {})


def _is_plain(node: onnx.NodeProto) -> bool:
    return node.op_type != "Conv" or attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID", b"")


def _rows(layer: Layer, value: Array) -> Array:
    """Groups × places × inputs: what some places of the layer's output are made of."""
    node, groups = layer.node, len(layer.weight)
    if node.op_type != "Conv":
        rows = np.asarray(value, np.float32).reshape(1, -1, layer.weight.shape[2])
        return rows[:, np.linspace(0, rows.shape[1] - 1, min(rows.shape[1], _POSITIONS)).astype(int)]
    rank = len(layer.kernel)
    pads, strides = attribute(node, "pads", [0] * 2 * rank), attribute(node, "strides", [1] * rank)
    dilations = attribute(node, "dilations", [1] * rank)
    padded = np.pad(value, [(0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    reach = [(size - 1) * gap + 1 for size, gap in zip(layer.kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(1, rank + 1)))
    seen = windows[(slice(None), *(slice(None, None, gap) for gap in (*strides, *dilations)))]
    places = int(np.prod(seen.shape[1 : rank + 1]))
    kept = np.unravel_index(np.linspace(0, places - 1, min(places, _POSITIONS)).astype(int), seen.shape[1 : rank + 1])
    columns = np.stack([seen[:, *place] for place in zip(*kept, strict=True)], axis=1).astype(np.float32)
    by_group = columns.reshape(groups, len(value) // groups, len(kept[0]), -1)
    return by_group.transpose(0, 2, 1, 3).reshape(groups, len(kept[0]), -1)


plugin: Pass = RoundLearned()
