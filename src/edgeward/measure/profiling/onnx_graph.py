"""An ONNX model as a SourceGraph, and with operators that are called after their places."""

import re
from collections.abc import Mapping
from contextlib import suppress

import onnx
from onnx import TensorProto, shape_inference

from edgeward.measure.profiling.source_graph import SourceGraph, SourceNode, SourceTensor
from edgeward.measure.work import KINDS, multiply_accumulates, weight_place

_NUMBER = re.compile(r"@(\d+)@")
_DTYPES = {
    TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64", TensorProto.INT8: "int8", TensorProto.UINT8: "uint8", TensorProto.INT16: "int16",
    TensorProto.UINT16: "uint16", TensorProto.INT32: "int32", TensorProto.UINT32: "uint32", TensorProto.INT64: "int64",
    TensorProto.UINT64: "uint64", TensorProto.BOOL: "bool",
}  # fmt: skip


def with_numbers(model: onnx.ModelProto) -> bytes:
    """Each node, and what it makes, is called after its place, so that it is known whatever the runtime calls it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = {value.name for value in (*copy.graph.input, *copy.graph.output)} | {""}
    inner = any(item.HasField("g") or item.graphs for node in copy.graph.node for item in node.attribute)
    made: dict[str, str] = {}
    for place, node in enumerate(copy.graph.node):
        node.name = f"@{place}@"
        for number, name in enumerate(node.output):
            if name not in kept and not inner:  # a graph inside a node reads names of the outer one
                made[name] = node.output[number] = f"@{place}@{number}"
    for node in copy.graph.node:
        for number, name in enumerate(node.input):
            node.input[number] = made.get(name, name)
    del copy.graph.value_info[:]
    return bytes(copy.SerializeToString())


def numbers_in(name: str) -> list[int]:
    """The places that a name was made of."""
    return [int(found) for found in _NUMBER.findall(name)]


def source_graph(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> SourceGraph:
    """The graph with its inputs in these shapes."""
    fixed = _fixed(model, shapes)
    tensors = _tensors(fixed)
    nodes = tuple(_node(node, tensors) for node in model.graph.node)
    return SourceGraph(nodes, tensors, tuple(value.name for value in model.graph.output))


def _fixed(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            dim.dim_value = size
    for value in copy.graph.output:  # inferred anew; a stated free batch would stay
        value.type.tensor_type.ClearField("shape")
    with suppress(shape_inference.InferenceError, ValueError):
        return shape_inference.infer_shapes(copy, data_prop=True)
    return copy


def _tensors(model: onnx.ModelProto) -> dict[str, SourceTensor]:
    found: dict[str, SourceTensor] = {}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        kind = value.type.tensor_type
        dims = kind.shape.dim
        is_known = kind.HasField("shape") and all(dim.HasField("dim_value") for dim in dims)
        shape = tuple(dim.dim_value for dim in dims) if is_known else None
        found[value.name] = SourceTensor(shape, _DTYPES.get(kind.elem_type, "other"))
    for tensor in model.graph.initializer:
        found[tensor.name] = SourceTensor(tuple(tensor.dims), _DTYPES.get(tensor.data_type, "other"), is_constant=True)
    for node in model.graph.node:
        if node.op_type == "Constant":
            before = found.get(node.output[0], SourceTensor(None, "other"))
            found[node.output[0]] = before._replace(is_constant=True)
    return found


def _node(node: onnx.NodeProto, tensors: Mapping[str, SourceTensor]) -> SourceNode:
    return SourceNode(
        name=node.name or next(iter(node.output), node.op_type), op=node.op_type, inputs=tuple(node.input),
        outputs=tuple(name for name in node.output if name), macs=_macs(node, tensors),
        is_depthwise=_is_depthwise(node, tensors),
    )  # fmt: skip


def _macs(node: onnx.NodeProto, tensors: Mapping[str, SourceTensor]) -> int | None:
    if node.op_type not in KINDS:
        return 0
    place = weight_place(node.op_type)
    if len(node.input) <= place or not node.output:
        return None
    names = (node.input[0], node.input[place], node.output[0])
    first, weight, output = (tensors[name].shape if name in tensors else None for name in names)
    if first is None or weight is None or output is None:
        return None
    turned = any(item.name == "transA" and item.i for item in node.attribute)
    return multiply_accumulates(node.op_type, first, weight, output, turned=turned)


def _is_depthwise(node: onnx.NodeProto, tensors: Mapping[str, SourceTensor]) -> bool:
    """One filter for each channel."""
    group = next((item.i for item in node.attribute if item.name == "group"), 1)
    tensor = tensors.get(node.input[0]) if node.input else None
    return group > 1 and tensor is not None and len(tensor.shape or ()) > 1 and (tensor.shape or ())[1] == group
