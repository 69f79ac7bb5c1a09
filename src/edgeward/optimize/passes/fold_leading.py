"""Moves the normalisation that a graph begins with into its first weights: Sub, Div, Mul, Add, BatchNormalization.

Exact up to rounding: with x' = g·x + o, W·x' + b = (W·g)·x + (b + W·o). A convolution that pads with zeros behind an
offset would see another border, so there the offset stays as one Add. What stands before other operators stays as it
is, and the model comes back unchanged.

A quantised input has one scale for all of it: features that were brought to one range would be rounded as coarsely as
the widest of them. So the arithmetic stays where calibration samples show that, unless the step says `rounded=False`:
nothing behind rounds the input.
"""

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from edgeward.infer import Predictor, runtimes
from edgeward.optimize.inspect import graph_inputs
from edgeward.optimize.leading import Lead, along, lead_of, moved_by
from edgeward.optimize.passes.base import Context, Pass, Passed
from edgeward.optimize.wiring import Array, Wiring, attribute, pads_with_zeros
from edgeward.records.candidate import Step

_SAMPLES = 64
_COARSER = 2.0
"""One bit of eight: more than the arithmetic costs."""


class FoldLeading:
    """Options: rounded (true: fold only what a quantised input bears)."""

    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:
        wiring = Wiring(model)
        leads = [lead_of(wiring, source) for source in graph_inputs(wiring.model)]
        leads = [lead for lead in leads if lead.arithmetic]
        if leads and step.options.get("rounded", True):
            feeds = _feeds(model, context)
            leads = [lead for lead in leads if _coarser(wiring, lead, feeds) <= _COARSER]
        done = [note for lead in leads if (note := _folded(wiring, lead))]
        if not done:
            return Passed(model, context.preprocess)
        del wiring.graph.value_info[:]
        return Passed(wiring.model, context.preprocess, tuple(done))


def _feeds(model: onnx.ModelProto, context: Context) -> dict[str, Array]:
    """What a few calibration samples, as large as the first, put into the model."""
    session = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)
    predictor = Predictor(session, preprocess=context.preprocess)
    tensors = [predictor.tensors(sample) for sample in context.samples[:_SAMPLES]]
    return {
        name: np.stack([one[name] for one in tensors if one[name].shape == tensors[0][name].shape])
        for name in (tensors[0] if tensors else ())
    }


def _coarser(wiring: Wiring, lead: Lead, feeds: Mapping[str, Array]) -> float:
    """How many times coarser one scale for the raw input is than one for what the arithmetic makes of it."""
    if lead.source not in feeds:
        return math.inf
    raw = feeds[lead.source]
    if raw.dtype == np.uint8:
        return 0.0  # bytes go into an integer kernel as they are
    low, high = min(0.0, float(raw.min())), max(0.0, float(raw.max()))
    for mover in lead.movers:
        moved = moved_by(wiring, mover, raw)
        raw = raw.reshape(len(raw), -1) if moved is None else moved
    values = raw * lead.gain + lead.offset
    reach = max(0.0, float(values.max())) - min(0.0, float(values.min()))
    return float(np.abs(lead.gain).max()) * (high - low) / reach if reach > 0 else math.inf


def _folded(wiring: Wiring, lead: Lead) -> str:
    """Folds the lead into the first weights, and says so; empty where that takes no node away."""
    node = wiring.sole_reader(lead.value)
    left = None if node is None else _into(wiring, node, lead)
    if node is None or left is None or (left.any() and (lead.gain == 1).all() and len(lead.arithmetic) == 1):
        return ""
    _rewire(wiring, node, lead, left)
    rest = ", the offset stays before its zero padding" if left.any() else ""
    return f"the normalisation at the head of the graph went into the first {node.op_type}{rest}"


def _into(wiring: Wiring, node: onnx.NodeProto, lead: Lead) -> Array | None:
    """Folds the lead into the weights of `node`; returns the offset that must stay before it (of the input, not of the
    value), None where nothing was folded."""
    weight = wiring.constant(node, 1)
    if node.input[0] != lead.value or weight is None or weight.dtype != np.float32:
        return None
    folders = {"Conv": _into_conv, "Gemm": _into_gemm, "MatMul": _into_matmul}
    return folders[node.op_type](wiring, node, weight.astype(np.float64), lead) if node.op_type in folders else None


def _into_conv(wiring: Wiring, node: onnx.NodeProto, weight: Array, lead: Lead) -> Array | None:
    groups = attribute(node, "group", 1)
    channels = weight.shape[1] * groups
    gain, offset = (along(part, 1, channels) for part in (lead.gain, lead.offset))
    bias = wiring.constant(node, 2)
    if gain is None or offset is None:
        return None
    rows = (groups, weight.shape[0] // groups, weight.shape[1])

    def of_weights(values: Array) -> Array:
        each = np.broadcast_to(values.reshape(groups, 1, -1), rows).reshape(weight.shape[:2])
        return each.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))

    stays = pads_with_zeros(node) or (bias is None and not wiring.is_left_out(node, 2))
    wiring.set_constant(node, 1, (weight * of_weights(gain)).astype(np.float32))
    if not offset.any() or stays:
        return lead.offset / lead.gain
    shift = (weight * of_weights(offset)).sum(axis=tuple(range(1, weight.ndim)))
    wiring.set_constant(node, 2, (shift if bias is None else bias + shift).astype(np.float32))
    return np.zeros(1)


def _into_gemm(wiring: Wiring, node: onnx.NodeProto, weight: Array, lead: Lead) -> Array | None:
    is_transposed = bool(attribute(node, "transB", 0))
    rows = weight.T if is_transposed else weight
    gain, offset = (along(part, 1, rows.shape[0]) for part in (lead.gain, lead.offset))
    bias, beta = wiring.constant(node, 2), attribute(node, "beta", 1.0)
    if gain is None or offset is None or attribute(node, "transA", 0):
        return None
    scaled = rows * gain[:, None]
    wiring.set_constant(node, 1, (scaled.T if is_transposed else scaled).astype(np.float32))
    if not offset.any() or beta == 0 or (bias is None and not wiring.is_left_out(node, 2)):
        return lead.offset / lead.gain
    shift = attribute(node, "alpha", 1.0) / beta * (offset @ rows)
    wiring.set_constant(node, 2, (shift if bias is None else bias + shift).astype(np.float32))
    return np.zeros(1)


def _into_matmul(wiring: Wiring, node: onnx.NodeProto, weight: Array, lead: Lead) -> Array | None:
    if weight.ndim != 2:
        return None
    gain, offset = (along(part, -1, weight.shape[0]) for part in (lead.gain, lead.offset))
    if gain is None or offset is None:
        return None
    wiring.set_constant(node, 1, (weight * gain[:, None]).astype(np.float32))
    adder = wiring.sole_reader(node.output[0])
    if not offset.any() or adder is None or adder.op_type != "Add":
        return lead.offset / lead.gain
    place = 1 - list(adder.input).index(node.output[0])
    bias = wiring.constant(adder, place)
    if bias is None or bias.ndim == 0 or bias.shape[-1] not in (1, weight.shape[1]):
        return lead.offset / lead.gain
    wiring.set_constant(adder, place, (bias + offset @ weight).astype(np.float32))
    return np.zeros(1)


def _rewire(wiring: Wiring, node: onnx.NodeProto, lead: Lead, left: Array) -> None:
    """Takes the arithmetic out; what moves values stays, and the offset that is left is added behind it."""
    value = lead.source
    for mover in lead.movers:
        mover.input[0], value = value, mover.output[0]
    wiring.remove(lead.arithmetic)
    if left.any():
        constant = wiring.add_constant(f"{node.output[0]}_offset", left.astype(np.float32))
        shifted = wiring.free_name(f"{node.output[0]}_shifted")
        place = list(wiring.graph.node).index(node)
        wiring.insert(place, helper.make_node("Add", [value, constant], [shifted]))
        value = shifted
    node.input[0] = value


plugin: Pass = FoldLeading()
