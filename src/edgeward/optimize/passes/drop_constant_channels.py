"""Channels that hold the same value for every calibration sample go, and that value into the next layer's bias.

Trained networks have many: a weight decay pulls what helps little to nothing, and behind a ReLU or ReLU6 a channel is 0
(or 6) from then on (Mehta, Kim and Theobalt, "On Implicit Filter Level Sparsity in Convolutional Neural Networks", CVPR
2019, arXiv:1811.12495). Taking them out is exact on what was seen. It is done between two layers with nothing but
operators in between that treat each channel by itself: activations, pooling, depthwise convolutions.

What a channel holds for a sample of another kind than all of these is not known. So it takes many samples, and the
accuracy gate judges the result as any other. Kernels work on channels in blocks: as many stay as fill whole ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from edgeward.infer import Predictor, runtimes
from edgeward.optimize.layers import layer_shapes
from edgeward.optimize.passes.base import Context, DoesNotApply, Pass, Passed
from edgeward.optimize.wiring import Array, Wiring, attribute, averages_pixels, making, pads_with_zeros
from edgeward.records.candidate import Step

_BLOCK = 8
_SAMPLES, _LEAST_SAMPLES = 512, 100
_LEAST_SAVED = 0.02
"""Of all multiplications: for less another candidate is not worth its time."""
_UNFELT = 1e-3
"""A channel may move an output by so little of what the strongest one does."""
_EACH_BY_ITSELF = (
    "AveragePool", "Clip", "Elu", "Gelu", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "MaxPool", "Relu", "Selu", "Sigmoid", "Softplus", "Tanh",
)  # fmt: skip


class Chain(NamedTuple):
    """A layer, the depthwise convolutions behind it, and the layer that reads them in the end: the value `read` there,
    `repeats` numbers for each channel. `reshape` is an operator between them that names the number of channels."""

    first: onnx.NodeProto
    between: tuple[onnx.NodeProto, ...]
    last: onnx.NodeProto
    read: str
    channels: int
    repeats: int
    reshape: onnx.NodeProto | None


class DropConstantChannels:
    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:  # noqa: ARG002 - no options
        if len(context.samples) < _LEAST_SAMPLES:
            raise DoesNotApply(f"{len(context.samples)} samples are too few to tell which channels are constant")
        wiring = Wiring(model)
        chains = _chains(wiring)
        if not chains:
            raise DoesNotApply("no two layers follow each other with only activations or the like in between")
        reached = _reached(model, [chain.read for chain in chains], context)
        count = 0
        for chain, (low, high) in zip(chains, reached, strict=True):
            kept = _kept(wiring, chain, low, high)
            if len(kept) < chain.channels:
                count += chain.channels - len(kept)
                _take_out(wiring, chain, kept, (low + high) / 2)
        if not count:
            raise DoesNotApply("there are not enough constant channels to fill a block")
        del wiring.graph.value_info[:]
        before, after = _work(model), _work(wiring.model)
        if after > (1 - _LEAST_SAVED) * before:
            raise DoesNotApply(f"constant channels are {1 - after / before:.1%} of the work")
        seen = min(len(context.samples), _SAMPLES)
        note = (
            f"{count} channels hold the same value for all of {seen} calibration samples and were taken out: "
            f"{1 - after / before:.0%} less work"
        )
        return Passed(wiring.model, context.preprocess, (note,))


def _chains(wiring: Wiring) -> list[Chain]:
    found = []
    for first in wiring.graph.node:
        if not _is_layer(wiring, first):
            continue
        channels, value, between = len(_outputs_first(wiring, first)), first.output[0], list[onnx.NodeProto]()
        reshape = None
        while (node := wiring.sole_reader(value)) is not None and node.input[0] == value:
            if _is_depthwise(wiring, node, channels):
                between.append(node)
            elif _lays_flat(wiring, node):
                reshape = node if node.op_type == "Reshape" else None
            elif not _treats_each_by_itself(wiring, node):
                break
            value = node.output[0]
        if node is None or node.input[0] != value or not _is_layer(wiring, node):
            continue
        repeats, rest = divmod(_outputs_first(wiring, node).shape[1], channels)
        if rest == 0 and repeats >= 1 and (repeats == 1 or node.op_type == "Gemm"):
            found.append(Chain(first, tuple(between), node, value, channels, repeats, reshape))
    return found


def _is_layer(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether each of its outputs reads all of its inputs, by weights that are its own."""
    plain = node.op_type == "Conv" and attribute(node, "group", 1) == 1
    plain |= node.op_type == "Gemm" and not attribute(node, "transA", 0) and attribute(node, "alpha", 1.0) == 1.0
    return plain and _owns_weights(wiring, node)


def _is_depthwise(wiring: Wiring, node: onnx.NodeProto, channels: int) -> bool:
    if node.op_type != "Conv" or attribute(node, "group", 1) != channels or not _owns_weights(wiring, node):
        return False
    return len(_outputs_first(wiring, node)) == channels > 1


def _owns_weights(wiring: Wiring, node: onnx.NodeProto) -> bool:
    weight, bias, has_bias = wiring.constant(node, 1), wiring.constant(node, 2), not wiring.is_left_out(node, 2)
    if weight is None or weight.dtype != np.float32 or len(wiring.readers[node.input[1]]) > 1:
        return False
    outputs = len(_outputs_first(wiring, node))
    if not has_bias:
        return True
    if node.op_type == "Gemm" and attribute(node, "beta", 1.0) != 1.0:
        return False
    return bias is not None and bias.size == outputs and len(wiring.readers[node.input[2]]) == 1


def _treats_each_by_itself(wiring: Wiring, node: onnx.NodeProto) -> bool:
    if node.op_type == "ReduceMean":
        return averages_pixels(wiring, node)
    return node.op_type in _EACH_BY_ITSELF and len(node.output) == 1


def _lays_flat(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether it makes samples × numbers of it, those of a channel side by side."""
    if node.op_type == "Flatten":
        return bool(attribute(node, "axis", 1) == 1)
    target = wiring.constant(node, 1)
    return node.op_type == "Reshape" and target is not None and target.size == 2


def _outputs_first(wiring: Wiring, node: onnx.NodeProto) -> Array:
    """Its weights as outputs × inputs × the rest."""
    values = wiring.constant(node, 1)
    if values is None:
        raise AssertionError("only layers with constant weights are looked at")
    return values.T if node.op_type == "Gemm" and not attribute(node, "transB", 0) else values


def _reached(model: onnx.ModelProto, names: Sequence[str], context: Context) -> list[tuple[Array, Array]]:
    """Of each value the least and the most that it reached: by channel, or by number where it lies flat."""
    session = runtimes.load("onnxruntime").load(making(model, names).SerializeToString(), threads=1)
    predictor = Predictor(session, preprocess=context.preprocess)
    found: list[tuple[Array, Array]] = []
    for values in predictor.outputs_of(context.samples[:_SAMPLES]):
        axes = [(0, *range(2, value.ndim)) for value in values]
        part = [(value.min(axis=axis), value.max(axis=axis)) for value, axis in zip(values, axes, strict=True)]
        found = [
            (np.minimum(low, lower), np.maximum(high, higher))
            for (low, high), (lower, higher) in zip(found or part, part, strict=True)
        ]
    return found


def _kept(wiring: Wiring, chain: Chain, low: Array, high: Array) -> Array:
    """The channels that stay, in their order: those that are felt, and of the others as many as fill their block."""
    weights = np.abs(_outputs_first(wiring, chain.last))
    weights = weights.reshape(len(weights), chain.channels, chain.repeats, -1).sum(axis=3)
    moved = ((high - low).reshape(chain.channels, chain.repeats) * weights).max(axis=(0, 2))
    if chain.last.op_type == "Conv" and pads_with_zeros(chain.last):
        # Beside zeros a constant is none: at the border the next layer sees another value.
        moved = np.maximum(moved, (np.abs(low + high) / 2 * weights[..., 0]).max(axis=0))
    felt = int((moved > _UNFELT * moved.max(initial=0.0)).sum())
    count = min(chain.channels, max(1, -(-felt // _BLOCK)) * _BLOCK)
    return np.sort(np.argsort(-moved, kind="stable")[:count])


def _take_out(wiring: Wiring, chain: Chain, kept: Array, value: Array) -> None:
    for node in (chain.first, *chain.between):
        is_turned = node.op_type == "Gemm" and not attribute(node, "transB", 0)
        weight = _outputs_first(wiring, node)[kept]
        wiring.set_constant(node, 1, weight.T if is_turned else weight)
        if (bias := wiring.constant(node, 2)) is not None:
            wiring.set_constant(node, 2, bias.reshape(-1)[kept])
    for node in chain.between:
        _set_groups(node, len(kept))
    gone = np.setdiff1d(np.arange(chain.channels), kept)
    weight = _outputs_first(wiring, chain.last)
    split = weight.reshape(len(weight), chain.channels, chain.repeats, -1)
    constant = (split[:, gone].sum(axis=3) * value.reshape(chain.channels, chain.repeats)[gone]).sum(axis=(1, 2))
    rest = split[:, kept].reshape(len(weight), -1, *weight.shape[2:])
    is_turned = chain.last.op_type == "Gemm" and not attribute(chain.last, "transB", 0)
    wiring.set_constant(chain.last, 1, rest.T if is_turned else rest)
    bias = wiring.constant(chain.last, 2)
    wiring.set_constant(chain.last, 2, (constant + (0 if bias is None else bias.reshape(-1))).astype(np.float32))
    if chain.reshape is not None and (target := wiring.constant(chain.reshape, 1)) is not None and target[1] > 0:
        wiring.set_constant(chain.reshape, 1, np.array([target[0], len(kept) * chain.repeats], target.dtype))


def _set_groups(node: onnx.NodeProto, count: int) -> None:
    others = [entry for entry in node.attribute if entry.name != "group"]
    del node.attribute[:]
    node.attribute.extend([*others, helper.make_attribute("group", count)])


def _work(model: onnx.ModelProto) -> int:
    """Multiplications of one inference, as far as shapes are known."""
    return sum(shape.macs * len(shape.names) for shape in layer_shapes(model))


plugin: Pass = DropConstantChannels()
