"""A LiteRT model as a SourceGraph."""

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgeward.infer.litert_profile import kind_of, name_of
from edgeward.measure.profiling.source_graph import SourceGraph, SourceNode, SourceTensor
from edgeward.measure.work import KINDS, multiply_accumulates

_DTYPES = {
    "FLOAT32": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16", "FLOAT64": "float64", "INT8": "int8",
    "UINT8": "uint8", "INT16": "int16", "INT32": "int32", "INT64": "int64", "BOOL": "bool",
}  # fmt: skip
_NAMES = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}


def source_graph(model: bytes) -> SourceGraph:
    """The first graph of the file, with its tensors in the shapes that the file states."""
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(model), 0))
    graph = whole.subgraphs[0]
    tensors = {_key(index): _tensor(whole, tensor) for index, tensor in enumerate(graph.tensors)}
    nodes = tuple(_node(whole, graph, operator, tensors) for operator in graph.operators)
    return SourceGraph(nodes, tensors, tuple(_key(index) for index in graph.outputs))


def _key(index: int) -> str:
    return f"t{index}" if index >= 0 else ""


def _tensor(whole: Any, tensor: Any) -> SourceTensor:
    data = whole.buffers[tensor.buffer].data
    is_constant = data is not None and len(data) > 0
    shape = tuple(int(size) for size in tensor.shape) if tensor.shape is not None else ()
    return SourceTensor(shape, _DTYPES.get(_NAMES.get(tensor.type, ""), "other"), is_constant)


def _node(whole: Any, graph: Any, operator: Any, tensors: dict[str, SourceTensor]) -> SourceNode:
    op = kind_of(whole, operator)
    inputs = tuple(_key(index) for index in operator.inputs)
    outputs = tuple(_key(index) for index in operator.outputs)
    return SourceNode(
        name=name_of(graph, operator), op=op, inputs=inputs, outputs=outputs,
        macs=_macs(op, operator, inputs, outputs, tensors), is_depthwise=op == "DEPTHWISE_CONV_2D",
    )  # fmt: skip


def _macs(
    op: str, operator: Any, inputs: tuple[str, ...], outputs: tuple[str, ...], tensors: dict[str, SourceTensor]
) -> int | None:
    if op not in KINDS or len(inputs) < 2:
        return 0
    # A transposed convolution takes the output's size first, and its input last.
    first = tensors[inputs[2 if op == "TRANSPOSE_CONV" else 0]].shape or ()
    weight, output = tensors[inputs[1]].shape or (), tensors[outputs[0]].shape or ()
    if op == "TRANSPOSE_CONV":
        weight = (weight[-1], weight[0], *weight[1:-1])
    if op == "FULLY_CONNECTED":
        first = (weight[-1],)
    turned = op == "BATCH_MATMUL" and bool(getattr(operator.builtinOptions, "adjX", False))
    return multiply_accumulates(op, first, weight, output, turned=turned)
