"""In a quantised graph that takes raw bytes, their mean becomes the zero point of the first integer kernel.

A convolution that pads with zeros sees the mean beyond the border, so that the mean cannot go into its bias and stays
as arithmetic on each pixel (`passes/fold_preprocess.py`). An integer kernel pads with the zero point of its input:
where each channel's zero point is its mean, bytes go into the kernel as they are. What a mean is beyond a whole number,
half of one at most, goes into the bias; padding alone is off by so much. Of the runtimes OpenVINO takes a zero point
for each channel.
"""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgeward.optimize.inspect import graph_inputs
from edgeward.optimize.leading import Lead, along, lead_of
from edgeward.optimize.wiring import Array, Wiring, attribute

_HIGHEST = 255
_ZERO_FOR_EACH = 13
"""The opset that brought a zero point for each channel."""


class Entry(NamedTuple):
    """The convolution, by name, that bytes go into; the order in which it reads their axes, their zero points by
    channel, and its bias for them."""

    conv: str
    order: list[int]
    zeros: Array
    bias: Array


def with_zero_point(quantised: onnx.ModelProto, before: onnx.ModelProto, scale: float) -> onnx.ModelProto | None:
    """The quantised graph with its bytes at the entry of its first convolution, where a mean is taken off them; None
    where there is no such thing. `before` is the float graph it was made of, with the same names. A byte is rounded
    with `scale`, which is 1 or hardly more."""
    entry = _entry(before)
    opset = max((one.version for one in quantised.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if entry is None or opset < _ZERO_FOR_EACH:
        return None
    wiring = Wiring(quantised)
    conv = next((node for node in wiring.graph.node if node.name == entry.conv), None)
    if conv is None or any(_maker(wiring, name) != "DequantizeLinear" for name in conv.input[:2]):
        return None
    source = graph_inputs(wiring.model)[0].name
    old = [conv.input[0], *conv.input[2:]]
    conv.input[0] = _rounded(wiring, source, entry, scale)
    wiring.set_constant(conv, 2, entry.bias)
    _drop_dead(wiring, old)
    del wiring.graph.value_info[:]
    return wiring.model


def _entry(before: onnx.ModelProto) -> Entry | None:
    inputs, wiring = graph_inputs(before), Wiring(before)
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != TensorProto.UINT8:
        return None
    lead = lead_of(wiring, inputs[0])
    conv, order = wiring.sole_reader(lead.value), _order(lead)
    if conv is None or conv.op_type != "Conv" or conv.input[0] != lead.value or not lead.arithmetic or order is None:
        return None
    weight, bias = wiring.constant(conv, 1), wiring.constant(conv, 2)
    if weight is None or attribute(conv, "group", 1) != 1 or (bias is None and not wiring.is_left_out(conv, 2)):
        return None
    offset = along(_unrepeated(lead.offset), 1, weight.shape[1])
    if offset is None or (lead.gain != 1).any():
        return None
    zeros = np.rint(-offset)
    if zeros.min() < 0 or zeros.max() > _HIGHEST:
        return None
    left = (offset + zeros).reshape(1, -1, *[1] * (weight.ndim - 2))
    shift = (weight.astype(np.float64) * left).sum(axis=tuple(range(1, weight.ndim)))
    whole = (shift if bias is None else bias + shift).astype(np.float32)
    return Entry(conv.name, order, zeros.astype(np.uint8), whole)


def _unrepeated(values: Array) -> Array:
    """One place of each axis but the second where all its places hold the same."""
    for axis in {*range(values.ndim)} - {1}:
        first = values.take([0], axis)
        if (values == first).all():
            values = first
    return values


def _order(lead: Lead) -> list[int] | None:
    """The order in which the value that is led to has the axes of the input; None where it has others."""
    order = list(range(lead.shaped.ndim))
    for node in lead.movers:
        if node.op_type == "Transpose":
            order = [order[axis] for axis in attribute(node, "perm", order[::-1])]
        elif node.op_type not in ("Cast", "Identity"):
            return None
    return order


def _maker(wiring: Wiring, name: str) -> str:
    return wiring.makers[name].op_type if name in wiring.makers else ""


def _rounded(wiring: Wiring, source: str, entry: Entry, scale: float) -> str:
    """Bytes to floats, in the order that the convolution reads, and off each the zero point of its channel."""
    names = [wiring.free_name(f"edgeward_entry_{part}") for part in ("float", "moved", "byte", "value")]
    one = np.float32(scale)
    constants = [
        wiring.add_constant(f"edgeward_entry_{name}", np.asarray(values))
        for name, values in (
            ("scale", one), ("zero", np.uint8(0)), ("scales", np.full(len(entry.zeros), one)), ("zeros", entry.zeros),
        )
    ]  # fmt: skip
    new = [
        helper.make_node("Cast", [source], [names[0]], to=TensorProto.FLOAT),
        helper.make_node("Transpose", [names[0]], [names[1]], perm=entry.order),
        helper.make_node("QuantizeLinear", [names[1], *constants[:2]], [names[2]]),
        helper.make_node("DequantizeLinear", [names[2], *constants[2:]], [names[3]], axis=1),
    ]
    for place, node in enumerate(new):
        wiring.insert(place, node)
    return names[3]


def _drop_dead(wiring: Wiring, values: list[str]) -> None:
    """Takes out what made the values, as far as nothing else reads it. None of them is an answer of the graph."""
    waiting = [*values]
    while waiting:
        name = waiting.pop()
        node = wiring.makers.get(name)
        if node is None:
            wiring.drop_unread(name)
        elif not any(wiring.readers.get(made) for made in node.output):
            wiring.remove([node])
            waiting += node.input
