"""Where the time of a whole model goes, layer by layer, by its runtime's own account; named as in the float graph."""

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeward.infer import read_npz, runtimes
from edgeward.infer.runtimes import NodeTime
from edgeward.kit.errors import Failed
from edgeward.measure.jobs import Contender
from edgeward.measure.node_times import node_times
from edgeward.measure.profiling.onnx_graph import numbers_in, with_numbers
from edgeward.optimize.named_layers import HEAVY, layers_of
from edgeward.records.candidate import Layer

_SECONDS = 0.4
_KINDS = {
    "CONV_2D": "Conv", "DEPTHWISE_CONV_2D": "Conv", "TRANSPOSE_CONV": "ConvTranspose", "FULLY_CONNECTED": "Gemm",
    "BATCH_MATMUL": "MatMul",
}  # fmt: skip
_SAME = frozenset({
    "Convolution", "GroupConvolution", "FullyConnected", "FullyConnectedQuantizedLegacy", "AvgPool",
    "QLinearAveragePool",
})  # fmt: skip
_HEAVY_KERNELS = ("Conv", "Gemm", "MatMul", "FullyConnected")
_LONGEST_FUSION = 4


class _Heavy(NamedTuple):
    """What is alike in a layer of one graph and the same layer of another: its kind and the shape of its weights."""

    kind: str
    weight: tuple[int, ...]


def first_feeds(contender: Contender) -> dict[str, NDArray[Any]]:
    """The first sample that a contender is timed with."""
    return {name: column[:1] for name, column in read_npz(Path(contender.feeds)).items()}


def profiled_layers(
    model: bytes, runtime: str, feeds: Mapping[str, NDArray[Any]], *, threads: int, graph: onnx.ModelProto
) -> tuple[Layer, ...]:
    """The layers of `model` in the order they ran, named as in `graph` where they are found there.

    Raises what running it raises; Unsupported for a runtime that keeps no account of its nodes.
    """
    is_onnx = "onnx" in runtimes.load(runtime).formats
    own = onnx.load_model_from_string(model) if is_onnx else None
    tagged = model if own is None else with_numbers(own)
    (told,) = node_times(runtime, [tagged], threads=threads, seconds=_SECONDS, feeds=feeds)
    if isinstance(told, str):
        raise Failed(told)
    names = _names_of_numbers(own, graph) if own is not None else _names_in_order(told, graph)
    whole = sum(node.time_ms for node in told)
    return tuple(_layer(place, node, names, own, whole) for place, node in enumerate(told))


def _layer(place: int, node: NodeTime, names: Mapping[int, str], own: onnx.ModelProto | None, whole_ms: float) -> Layer:
    found = numbers_in(node.name)
    name, op = node.name, node.kernel
    if own is None:
        name = names.get(place, node.name)
    elif found:
        number = _layer_before(own, found[0], node.kernel)
        source = own.graph.node[number]
        name, op = names.get(number) or source.name or source.output[0], _op(node.kernel, source.op_type)
    return Layer(
        name=name, op=op, time_ms=round(node.time_ms, 6),
        share=round(node.time_ms / whole_ms, 4) if whole_ms else None, placement=node.placement,
    )  # fmt: skip


def _layer_before(own: onnx.ModelProto, number: int, kernel: str) -> int:
    """The layer that a kernel is called after its end: a convolution after the Relu that it ends in."""
    if not any(word in kernel for word in _HEAVY_KERNELS):
        return number
    makers = {name: place for place, node in enumerate(own.graph.node) for name in node.output}
    at = number
    for _ in range(_LONGEST_FUSION):
        node = own.graph.node[at]
        if node.op_type in HEAVY:
            return at
        before = [makers[name] for name in node.input if name in makers]
        if not before:
            break
        at = max(before)
    return number


def _op(kernel: str, stated: str) -> str:
    """The operator, with the runtime's own word where that tells more."""
    same = kernel.casefold() in (stated.casefold(), f"fused{stated.casefold()}")
    return stated if same or kernel in _SAME else f"{stated} ({kernel})"


def _names_of_numbers(own: onnx.ModelProto, graph: onnx.ModelProto) -> dict[int, str]:
    """By place in `own`: the layer of `graph` with the same name or the same result; else, for layers with weights, the
    one that stands in the same place among those of its kind and shape."""
    known = {name: node for node in graph.graph.node for name in node.output}
    known |= {node.name: node for node in graph.graph.node}
    readers = {name: node for node in reversed(own.graph.node) for name in node.input}
    found = {}
    for place, node in enumerate(own.graph.node):
        at: onnx.NodeProto | None = node
        for _ in range(_LONGEST_FUSION if node.op_type in HEAVY else 1):
            same = None if at is None else known.get(at.name or at.output[0]) or known.get(at.output[0])
            if same is not None and _are_alike(node, same):
                found[place] = same.name
                break
            at = None if at is None else readers.get(at.output[0])
    mine = [place for place, node in enumerate(own.graph.node) if node.op_type in HEAVY]
    if all(place in found for place in mine):
        return found
    theirs = layers_of(graph)
    matcher = SequenceMatcher(None, _heavies(own, mine), _heavies(graph, range(len(graph.graph.node))), autojunk=False)
    return {  # names that were made anew may be those of other layers: they are not asked
        mine[block.a + step]: theirs[block.b + step].name
        for block in matcher.get_matching_blocks()
        for step in range(block.size)
    }


def _are_alike(node: onnx.NodeProto, known: onnx.NodeProto) -> bool:
    """Whether one can be the other: short names that were made anew fall on those of any node."""
    if node.op_type in HEAVY or known.op_type in HEAVY:
        return node.op_type == known.op_type or {node.op_type, known.op_type} == {"MatMul", "Gemm"}
    return True


def _heavies(model: onnx.ModelProto, places: Sequence[int]) -> list[_Heavy]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes |= {
        node.output[0]: shapes.get(node.input[0], ())
        for node in model.graph.node
        if node.op_type in ("DequantizeLinear", "Cast")  # weights in fewer bytes than they are computed in
    }
    nodes = (model.graph.node[place] for place in places)
    return [
        _Heavy(node.op_type, shapes.get(node.input[1], ())) for node in nodes if node.op_type in HEAVY
    ]  # fmt: skip


def _names_in_order(nodes: Sequence[NodeTime], graph: onnx.ModelProto) -> dict[int, str]:
    """For a file without our names: the layers of each kind in their order, where both sides have as many."""
    found: dict[int, str] = {}
    for kind in HEAVY:
        mine = [place for place, node in enumerate(nodes) if _KINDS.get(node.kernel) == kind]
        theirs = [node.name for node in layers_of(graph) if node.op_type == kind]
        if len(mine) == len(theirs):
            found |= dict(zip(mine, theirs, strict=True))
    return found


def with_forecast(layers: Sequence[Layer], told: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers as they ran, each with what was forecast for it."""
    known = {layer.name: layer for layer in told}
    return tuple(
        layer if (mine := known.get(layer.name)) is None else _joined(layer, mine) for layer in layers
    )  # fmt: skip


def _joined(layer: Layer, told: Layer) -> Layer:

    return replace(layer, forecast_gain=told.forecast_gain, forecast_gains=told.forecast_gains, why=told.why)
