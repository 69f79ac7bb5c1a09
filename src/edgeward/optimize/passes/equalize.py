"""Cross-layer equalisation: brings the ranges of a layer's channels closer together, so that one scale suits them all.

After Nagel, van Baalen, Blankevoort and Welling, "Data-Free Quantization Through Weight Equalization and Bias
Correction" (ICCV 2019, arXiv:1906.04721). Between two layers with nothing but f in between, f(s·x) = s·f(x), channel i
of the first is divided by s_i and the weights that read it in the second are multiplied by it, with
s_i = sqrt(r1_i / r2_i), r the largest absolute weight: both then reach as far, sqrt(r1_i · r2_i). Pairs are repeated
until nothing moves. Exact in float up to rounding. It pays where weights have one scale for a whole tensor, and where
the channels of an activation differ much.

f is Relu, LeakyRelu, Clip from 0 without an upper bound, pooling, or nothing. An activation with an upper bound such as
ReLU6 is not scaled by s, and such a pair is left alone.
"""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import shape_inference

from edgeward.optimize.passes.base import Context, DoesNotApply, Pass, Passed
from edgeward.optimize.wiring import Array, Wiring, attribute, averages_pixels
from edgeward.records.candidate import Step

_SCALED = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "Dropout")
_ROUNDS = 40
_STILL = 1e-3
_WIDEST = 1e4
"""A channel is scaled by no more: what is next to nothing must not be blown up."""


class Pair(NamedTuple):
    """Two layers, and how many inputs of the second read one channel of the first (more than one behind Flatten)."""

    first: onnx.NodeProto
    second: onnx.NodeProto
    repeats: int


class Equalize:
    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:  # noqa: ARG002 - no options
        wiring = Wiring(model)
        pairs = _pairs(wiring)
        if not pairs:
            raise DoesNotApply("no two layers follow each other with only a Relu or the like in between")
        weights = {node.output[0]: _weight(wiring, node) for pair in pairs for node in pair[:2]}
        biases = {pair.first.output[0]: wiring.constant(pair.first, 2) for pair in pairs}
        before = [_spread(pair, weights) for pair in pairs]
        for _ in range(_ROUNDS):
            if max(_balance(pair, weights, biases) for pair in pairs) < _STILL:
                break
        _write(wiring, pairs, weights, biases)
        after = [_spread(pair, weights) for pair in pairs]
        note = (
            f"{len(pairs)} pairs of layers equalised: the widest channel was {np.mean(before):.1f} times as wide as "
            f"the middle one, on average, and is now {np.mean(after):.1f} times"
        )
        return Passed(wiring.model, context.preprocess, (note,))


def _pairs(wiring: Wiring) -> list[Pair]:
    shapes = _shapes(wiring.model)
    found = []
    for first in wiring.graph.node:
        if not _is_layer(wiring, first):
            continue
        value, repeats = first.output[0], 1
        while (node := wiring.sole_reader(value)) is not None and node.input[0] == value:
            if node.op_type in ("Flatten", "Reshape"):
                repeats = _per_channel(node, shapes.get(value, ()), shapes.get(node.output[0], ()))
                if not repeats:
                    break
            elif not _lets_scales_through(wiring, node):
                break
            value = node.output[0]
        if node is None or not repeats or not _is_layer(wiring, node) or node.input[0] != value:
            continue
        if _channels_in(wiring, node) == _channels_out(wiring, first) * repeats:
            found.append(Pair(first, node, repeats))
    return found


def _is_layer(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether its weights, and its bias if it has one, are constants that can be scaled."""
    weight, has_bias = wiring.constant(node, 1), not wiring.is_left_out(node, 2)
    if node.op_type not in ("Conv", "Gemm") or weight is None or weight.dtype != np.float32:
        return False
    if len(wiring.readers[node.input[1]]) > 1 or (has_bias and len(wiring.readers[node.input[2]]) > 1):
        return False  # shared weights: another layer would be scaled too
    if node.op_type == "Gemm" and attribute(node, "transA", 0):
        return False
    bias = wiring.constant(node, 2)
    return not has_bias or (bias is not None and bias.size == _channels_out(wiring, node))


def _lets_scales_through(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """f(s·x) = s·f(x) for every s > 0, each channel by itself."""
    if node.op_type == "Clip":
        low, high = wiring.constant(node, 1), wiring.constant(node, 2)
        bounds = (wiring.is_left_out(node, 1) or low is not None) and (wiring.is_left_out(node, 2) or high is not None)
        lows, highs = (np.zeros(1) if low is None else low), (np.full(1, np.inf) if high is None else high)
        plain = wiring.is_left_out(node, 1) or not lows.any() or bool(np.isneginf(lows).all())
        return bounds and plain and float(highs.max()) >= float(np.finfo(np.float32).max)
    if node.op_type == "ReduceMean":
        return averages_pixels(wiring, node)
    return node.op_type in _SCALED and len(node.output) == 1


def _per_channel(node: onnx.NodeProto, before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """How many values of each channel a Flatten or Reshape lays side by side; 0 where it is not known to do so."""
    if len(after) == 2 and len(before) in (2, 3, 4) and all(before[1:]) and after[1] == int(np.prod(before[1:])):
        return int(np.prod(before[2:]))
    if node.op_type == "Flatten" and attribute(node, "axis", 1) == 1 and len(before) == 4 and before[2:] == (1, 1):
        return 1
    return 0


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The known dimensions of every value, 0 for a free one."""
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except shape_inference.InferenceError:
        graph = model.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in values}


def _weight(wiring: Wiring, node: onnx.NodeProto) -> Array:
    """Outputs × inputs of a group × the rest, in float64."""
    values = wiring.constant(node, 1)
    if values is None:
        raise AssertionError("only layers with constant weights are paired")
    turned = node.op_type == "Gemm" and not attribute(node, "transB", 0)
    return np.array(values.T if turned else values, np.float64)


def _channels_out(wiring: Wiring, node: onnx.NodeProto) -> int:
    return len(_weight(wiring, node))


def _channels_in(wiring: Wiring, node: onnx.NodeProto) -> int:
    groups = attribute(node, "group", 1) if node.op_type == "Conv" else 1
    return int(_weight(wiring, node).shape[1] * groups)


def _by_input(pair: Pair, weight: Array) -> Array:
    """A view of the second layer's weights as channels of the first × whatever reads them."""
    groups = attribute(pair.second, "group", 1) if pair.second.op_type == "Conv" else 1
    split = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    by_channel = np.moveaxis(split, 2, 1).reshape(groups * weight.shape[1], -1)
    return by_channel.reshape(len(by_channel) // pair.repeats, -1)


def _ranges(pair: Pair, weights: dict[str, Array]) -> tuple[Array, Array]:
    first, second = (weights[node.output[0]] for node in pair[:2])
    return np.abs(first.reshape(len(first), -1)).max(axis=1), np.abs(_by_input(pair, second)).max(axis=1)


def _spread(pair: Pair, weights: dict[str, Array]) -> float:
    ranges, _ = _ranges(pair, weights)
    middle = float(np.median(ranges[ranges > 0])) if ranges.any() else 0.0
    return float(ranges.max()) / middle if middle else 1.0


def _balance(pair: Pair, weights: dict[str, Array], biases: dict[str, Array | None]) -> float:
    """Equalises one pair; returns how far the furthest channel moved."""
    one, other = _ranges(pair, weights)
    alive = (one > 0) & (other > 0)
    scale = np.ones(len(one))
    scale[alive] = np.clip(np.sqrt(one[alive] / other[alive]), 1 / _WIDEST, _WIDEST)
    first, second = pair.first.output[0], pair.second.output[0]
    weights[first] = weights[first] / _shaped(scale, weights[first].ndim, 0)
    bias = biases[first]
    if bias is not None:
        biases[first] = bias / scale.reshape(bias.shape)
    weights[second] = weights[second] * _of_inputs(pair, scale, weights[second])
    return float(np.abs(np.log(scale)).max())


def _of_inputs(pair: Pair, scale: Array, weight: Array) -> Array:
    """The scale of the channel that each weight of the second layer reads."""
    groups = attribute(pair.second, "group", 1) if pair.second.op_type == "Conv" else 1
    each = np.repeat(scale, pair.repeats).reshape(groups, 1, weight.shape[1])
    rows = np.broadcast_to(each, (groups, weight.shape[0] // groups, weight.shape[1])).reshape(weight.shape[:2])
    return rows.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))


def _shaped(scale: Array, rank: int, axis: int) -> Array:
    return scale.reshape([-1 if place == axis else 1 for place in range(rank)])


def _write(wiring: Wiring, pairs: list[Pair], weights: dict[str, Array], biases: dict[str, Array | None]) -> None:
    for node in {node.output[0]: node for pair in pairs for node in pair[:2]}.values():
        turned = node.op_type == "Gemm" and not attribute(node, "transB", 0)
        weight = weights[node.output[0]]
        wiring.set_constant(node, 1, (weight.T if turned else weight).astype(np.float32))
        bias = biases.get(node.output[0])
        if bias is not None:
            wiring.set_constant(node, 2, bias.astype(np.float32))


plugin: Pass = Equalize()
