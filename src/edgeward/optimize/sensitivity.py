"""How much noise int8 adds, layer by layer: one layer at a time computes in int8, all others in float.

The layer's integer unit (its inputs, weights and result rounded as the quantiser decided) is taken out of the quantised
graph and set beside the float layer in the float graph. What it gives is compared with what the float layer gives, and
then, put in its place, what it makes of the model's answers.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeward.infer import runtimes
from edgeward.infer.runtimes import Session
from edgeward.kit.errors import EdgewardError, Unsupported
from edgeward.optimize.named_layers import layers_of, with_names

Tensors = Mapping[str, NDArray[Any]]

SAMPLES = 64
"""Calibration samples that are enough: the ratio is over all their values."""
_LEAST_SAMPLES = 2
_BATCH = 16
_OWN_RUNS = 4
"""What comparing all layers with themselves takes, in runs of the float graph."""
_OUTPUT_BYTES = 256_000_000
_MOST_DB = 120.0
"""Where there is no noise at all, or nothing but noise (minus)."""
_SQUASHING = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax")
"""What stands last hides noise, or makes a flip of it: the scores before it are compared."""


class LayerNoise(NamedTuple):
    """Signal over noise in decibels where this layer alone computes in int8: at its own output, and in the model's
    answers (None: there was no time, or they are no floats)."""

    name: str
    op: str
    sqnr_db: float
    output_sqnr_db: float | None


class _Unit(NamedTuple):
    """A layer in int8: its operators, from float to float, and the float value that it stands in for."""

    name: str
    op: str
    nodes: tuple[onnx.NodeProto, ...]
    constants: tuple[onnx.TensorProto, ...]
    stands_for: str
    result: str


def decibels(signal: float, noise: float) -> float:
    """10·log10(signal / noise), both sums of squares; within ±120."""
    if noise <= 0:
        return _MOST_DB
    if signal <= 0 or not math.isfinite(noise):
        return -_MOST_DB
    return max(-_MOST_DB, min(_MOST_DB, 10 * math.log10(signal / noise)))


def layer_noise(
    before: onnx.ModelProto, after: onnx.ModelProto, feeds: Sequence[Tensors], *, seconds: float = 4.0
) -> tuple[LayerNoise, ...]:
    """The noise of each layer that is quantised in `after`, in the order of the graph: SQNR = 10·log10(Σx²/Σ(x-x̂)²).

    `before` is the float graph that the quantiser was given, `after` what it made; `feeds` are input tensors without
    a batch axis, of which the first 64 at most are used, fewer where they would take longer than about `seconds`.
    When the time is over, the effect on the answers is left out for the layers with the least noise of their own.
    Raises Unsupported where no layer of one graph is found in the other.
    """
    start = perf_counter()
    named = with_names(before)
    units = [unit for node in layers_of(named) if (unit := _unit_of(node.name, named, after)) is not None]
    if not units or not feeds:
        raise Unsupported("no quantised layer of this graph can be compared with its float one")
    session, outputs = _float_session(named)
    batches, reference = _answered(session, feeds, seconds / (len(units) + _OWN_RUNS))
    own = _own_noise(named, units, batches)
    effect: dict[int, float] = {}
    for index in sorted(range(len(units)), key=lambda index: own[index]) if outputs else ():
        if effect and perf_counter() - start > seconds:
            break
        changed = _load(_with_unit_in_place(named, units[index], outputs))
        effect[index] = _noise_of_answers(reference, [changed.run(batch) for batch in batches])
    return tuple(
        LayerNoise(unit.name, unit.op, own[index], effect.get(index)) for index, unit in enumerate(units)
    )  # fmt: skip


def _unit_of(name: str, before: onnx.ModelProto, after: onnx.ModelProto) -> _Unit | None:
    """None where the layer is not in int8 in `after`, or reads and makes values that `before` does not know."""
    node = next((node for node in after.graph.node if node.name == name), None)
    if node is None:
        return None
    makers = {output: maker for maker in after.graph.node for output in maker.output}
    constants = {tensor.name: tensor for tensor in after.graph.initializer}
    known = {output for maker in before.graph.node for output in maker.output}
    known |= {value.name for value in before.graph.input}
    nodes = [node]
    for value in node.input:
        back = makers.get(value)
        if back is not None and back.op_type == "DequantizeLinear":
            nodes.insert(0, back)
            there = makers.get(back.input[0])
            if there is not None and there.op_type == "QuantizeLinear":
                nodes.insert(0, there)
    if not all(value in makers and makers[value].op_type == "DequantizeLinear" for value in node.input[:2]):
        return None
    result = node.output[0]
    for follower in ("QuantizeLinear", "DequantizeLinear"):
        reader = next((n for n in after.graph.node if n.op_type == follower and n.input[0] == result), None)
        if reader is not None:
            nodes.append(reader)
            result = reader.output[0]
    made = {output for one in nodes for output in one.output}
    read = {value for one in nodes for value in one.input if value} - made
    # The quantiser renames what was an output of the model: the rounded value has its name.
    stands_for = node.output[0] if node.output[0] in known else result
    if not read <= known | set(constants) or stands_for not in known:
        return None
    read_constants = [constants[value] for value in sorted(read & set(constants))]
    return _renamed(node, nodes, read_constants, stands_for, result)


def _renamed(
    layer: onnx.NodeProto,
    nodes: Sequence[onnx.NodeProto],
    constants: Iterable[onnx.TensorProto],
    stands_for: str,
    result: str,
) -> _Unit:
    """The unit under names that the float graph does not have."""
    names = {output: f"int8/{layer.name}/{output}" for node in nodes for output in node.output}
    kept = []
    for tensor in constants:
        names[tensor.name] = f"int8/{layer.name}/{tensor.name}"
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copy.name = names[tensor.name]
        kept.append(copy)
    copies = []
    for node in nodes:
        copy_node = onnx.NodeProto()
        copy_node.CopyFrom(node)
        copy_node.name = f"int8/{layer.name}/{node.name or node.output[0]}"
        copy_node.input[:] = [names.get(value, value) for value in node.input]
        copy_node.output[:] = [names[value] for value in node.output]
        copies.append(copy_node)
    unique = {node.output[0]: node for node in copies}
    return _Unit(layer.name, layer.op_type, tuple(unique.values()), tuple(kept), stands_for, names[result])


def _float_session(model: onnx.ModelProto) -> tuple[Session, list[str]]:
    """The float graph with the answers to compare as its outputs; those that are no floats are left out."""
    makers = {output: node for node in model.graph.node for output in node.output}
    outputs = []
    for value in model.graph.output:
        maker = makers.get(value.name)
        squashed = maker is not None and maker.op_type in _SQUASHING
        if squashed or value.type.tensor_type.elem_type == TensorProto.FLOAT:
            outputs.append(maker.input[0] if maker is not None and squashed else value.name)
    return _load(_with_outputs(model, outputs) if outputs else model), outputs


def _with_outputs(model: onnx.ModelProto, outputs: Iterable[str]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    return copy


def _own_noise(model: onnx.ModelProto, units: Sequence[_Unit], batches: Sequence[Tensors]) -> list[float]:
    """Of each layer, the SQNR at its own output: float and int8 side by side in one graph, which adds the squares."""
    sums = [(f"int8/{unit.name}/signal", f"int8/{unit.name}/noise") for unit in units]
    beside = _with_outputs(model, [name for pair in sums for name in pair])
    for unit, (signal, noise) in zip(units, sums, strict=True):
        difference = f"{noise}/difference"
        compared = [
            helper.make_node("Sub", [unit.stands_for, unit.result], [difference], name=difference),
            helper.make_node("ReduceSumSquare", [unit.stands_for], [signal], keepdims=0, name=signal),
            helper.make_node("ReduceSumSquare", [difference], [noise], keepdims=0, name=noise),
        ]
        beside.graph.node.extend((*unit.nodes, *compared))
        beside.graph.initializer.extend(unit.constants)
    session = _load(beside)
    totals = np.sum([np.array(session.run(batch), np.float64) for batch in batches], axis=0)
    return [decibels(float(signal), float(noise)) for signal, noise in totals.reshape(-1, 2)]


def _with_unit_in_place(model: onnx.ModelProto, unit: _Unit, outputs: Sequence[str]) -> onnx.ModelProto:
    """The float graph in which all that read the float layer read the integer one."""
    copy = _with_outputs(model, [unit.result if name == unit.stands_for else name for name in outputs])
    for node in copy.graph.node:
        node.input[:] = [unit.result if value == unit.stands_for else value for value in node.input]
    place = next(i for i, node in enumerate(copy.graph.node) if unit.stands_for in node.output)
    for offset, node in enumerate(unit.nodes):
        copy.graph.node.insert(place + 1 + offset, node)
    copy.graph.initializer.extend(unit.constants)
    return copy


def _noise_of_answers(
    reference: Sequence[Sequence[NDArray[Any]]], changed: Sequence[Sequence[NDArray[Any]]]
) -> float:  # fmt: skip
    """The SQNR of the answers; with several outputs, of the mean of their shares of noise."""
    shares = []
    for place in range(len(reference[0])):
        pairs = [(one[place].astype(np.float64), other[place]) for one, other in zip(reference, changed, strict=True)]
        signal = sum(float(np.square(one).sum()) for one, _ in pairs)
        noise = sum(float(np.square(one - other).sum()) for one, other in pairs)
        shares.append(noise / signal if signal > 0 else float(noise > 0))
    return decibels(1.0, float(np.mean(shares)))


def _load(model: onnx.ModelProto) -> Session:
    return runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)


def _answered(
    session: Session, feeds: Sequence[Tensors], seconds: float
) -> tuple[list[dict[str, NDArray[Any]]], list[list[NDArray[Any]]]]:
    """Samples in batches where the graph takes them so, and its answers: as many as it gives in about `seconds`, and
    as have room in memory."""
    alone = [{name: value[None] for name, value in feed.items()} for feed in feeds[:SAMPLES]]
    session.run(alone[0])
    begin = perf_counter()
    answer = session.run(alone[0])
    taken_s, answer_bytes = perf_counter() - begin, sum(value.nbytes for value in answer)
    count = min(int(seconds / max(taken_s, 1e-6)), _OUTPUT_BYTES // max(answer_bytes, 1))
    alone = alone[: max(count, _LEAST_SAMPLES)]
    groups = [alone[place : place + _BATCH] for place in range(0, len(alone), _BATCH)]
    together = [{name: np.concatenate([one[name] for one in group]) for name in group[0]} for group in groups]
    try:
        return together, [session.run(batch) for batch in together]
    except (EdgewardError, ValueError):
        return alone, [session.run(one) for one in alone]
