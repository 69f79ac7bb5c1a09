"""What an input of a graph goes through before its first layer: arithmetic with constants, and moves of values."""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto

from edgeward.optimize.wiring import Array, Wiring, attribute

_ARITHMETIC = ("Add", "Sub", "Mul", "Div")


class Lead(NamedTuple):
    """value = gain · input + offset, both as arrays of the value's rank that broadcast to it; an array of its shape,
    with 1 for a free dimension; the nodes that make it, and those of them that only move values."""

    value: str
    gain: Array
    offset: Array
    shaped: Array
    nodes: tuple[onnx.NodeProto, ...] = ()
    movers: tuple[onnx.NodeProto, ...] = ()
    source: str = ""

    @property
    def arithmetic(self) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node not in self.movers]


def lead_of(wiring: Wiring, source: onnx.ValueInfoProto) -> Lead:
    """The arithmetic that an input goes through first; none of it where no weights could take it."""
    shape = source.type.tensor_type.shape.dim
    one = np.ones([1] * len(shape))
    spread = np.broadcast_to(0, [max(1, dim.dim_value) for dim in shape])
    none = lead = Lead(source.name, one, one * 0, spread, source=source.name)
    if source.type.tensor_type.elem_type not in (TensorProto.FLOAT, TensorProto.UINT8) or not shape:
        return none
    while (node := wiring.sole_reader(lead.value)) is not None:
        further = _behind(wiring, lead, node)
        if further is None:
            break
        lead = further
    if node is None or not np.isfinite(lead.gain).all() or not np.isfinite(lead.offset).all() or not lead.gain.all():
        return none
    return lead


def _behind(wiring: Wiring, lead: Lead, node: onnx.NodeProto) -> Lead | None:
    """The lead as it is behind `node`, None where that is no arithmetic with constants and moves nothing we follow."""
    if node.op_type in _ARITHMETIC:
        return _after_arithmetic(wiring, lead, node)
    if node.op_type == "BatchNormalization" and len(node.output) == 1 and lead.gain.ndim > 1:
        scale, shift, mean, variance = (wiring.constant(node, index) for index in (1, 2, 3, 4))
        if scale is None or shift is None or mean is None or variance is None:
            return None
        axes = (1, -1, *[1] * (lead.gain.ndim - 2))
        gain = (scale / np.sqrt(variance.astype(np.float64) + attribute(node, "epsilon", 1e-5))).reshape(axes)
        offset = shift.reshape(axes) - mean.reshape(axes) * gain
        return _calculated(lead, node, lead.gain * gain, lead.offset * gain + offset)
    moved = [moved_by(wiring, node, part) for part in (lead.gain, lead.offset, lead.shaped)]
    if node.op_type == "Flatten" and lead.gain.size == lead.offset.size == 1:
        moved = [part.reshape(-1)[:1].reshape(1, 1) for part in (lead.gain, lead.offset, lead.shaped)]
    gain, offset, shaped = moved
    if gain is None or offset is None or shaped is None:
        return None
    return Lead(node.output[0], gain, offset, shaped, (*lead.nodes, node), (*lead.movers, node), lead.source)


def _calculated(lead: Lead, node: onnx.NodeProto, gain: Array, offset: Array) -> Lead | None:
    """None where the constants have more places than the value: then they make it larger."""
    if any(size not in (1, there) for size, there in zip(gain.shape, lead.shaped.shape, strict=True)):
        return None
    if any(size not in (1, there) for size, there in zip(offset.shape, lead.shaped.shape, strict=True)):
        return None
    return lead._replace(value=node.output[0], gain=gain, offset=offset, nodes=(*lead.nodes, node))


def _after_arithmetic(wiring: Wiring, lead: Lead, node: onnx.NodeProto) -> Lead | None:
    place = list(node.input).index(lead.value)
    values = wiring.constant(node, 1 - place)
    if values is None or values.ndim > lead.gain.ndim or values.dtype != np.float32:
        return None
    if not np.isfinite(values).all() or (node.op_type == "Div" and (place == 1 or not values.all())):
        return None
    number: Array = values.astype(np.float64).reshape((*[1] * (lead.gain.ndim - values.ndim), *values.shape))
    if node.op_type in ("Mul", "Div"):
        factor = number if node.op_type == "Mul" else 1 / number
        return _calculated(lead, node, lead.gain * factor, lead.offset * factor)
    if node.op_type == "Sub" and place == 1:
        return _calculated(lead, node, -lead.gain, number - lead.offset)
    return _calculated(lead, node, lead.gain, lead.offset + (number if node.op_type == "Add" else -number))


def moved_by(wiring: Wiring, node: onnx.NodeProto, part: Array) -> Array | None:
    """The array as it is behind an operator that only moves values, None where that is not known."""
    if node.op_type == "Transpose":
        return part.transpose(attribute(node, "perm", list(range(part.ndim))[::-1]))
    if node.op_type == "Squeeze" and (axes := wiring.constant(node, 1)) is not None:
        return part.squeeze(tuple(axes.tolist())) if all(part.shape[axis] == 1 for axis in axes) else None
    to_float = node.op_type == "Cast" and attribute(node, "to", 0) == TensorProto.FLOAT
    return part if to_float or node.op_type == "Identity" else None


def along(part: Array, axis: int, length: int) -> Array | None:
    """A gain or offset as one value for each of `length` places along `axis`, None where it varies along another."""
    others = [size for place, size in enumerate(part.shape) if place != axis % part.ndim]
    if any(size != 1 for size in others) or part.shape[axis] not in (1, length):
        return None
    return np.broadcast_to(part.reshape(-1), (length,))
