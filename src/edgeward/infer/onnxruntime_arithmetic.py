"""What ONNX Runtime really computes in: read from the graph that it made of the model, after its fusions.

Its own record of the nodes it assigned is of no use here: it is taken before quantised operators are fused, and names
a float convolution where an integer one runs.
"""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnxruntime as ort

_FLOAT = frozenset({
    "Conv", "FusedConv", "ConvTranspose", "MatMul", "FusedMatMul", "Gemm", "FusedGemm", "Attention",
    "MultiHeadAttention", "LSTM", "GRU", "RNN",
})  # fmt: skip
_INT8 = frozenset({
    "QLinearConv", "ConvInteger", "ConvTransposeInteger", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul", "QGemm", "QAttention", "DynamicQuantizeLSTM",
})  # fmt: skip


def arithmetic_of(model: bytes) -> str | None:
    """What most of the convolutions and matrix products of `model` are computed in on the CPU.

    None when it has none, or when the package onnx, which reads the graph, is not installed. `model` must load.
    """
    try:
        import onnx
    except ImportError:
        return None
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        file = Path(folder) / "optimised.onnx"
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.optimized_model_filepath = str(file)
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(file).graph
    dtypes = _dtypes(graph)
    used = Counter(dtype for node in graph.node if (dtype := _computed_in(node, dtypes)) is not None)
    return used.most_common(1)[0][0] if used else None


def _computed_in(node: Any, dtypes: dict[str, int]) -> str | None:
    from onnx import TensorProto

    if node.op_type in _INT8:
        return "int8"
    if node.op_type == "MatMulNBits":  # weights in few bits; activations too from accuracy level 4 on
        level = next((item.i for item in node.attribute if item.name == "accuracy_level"), 0)
        return "int8" if level >= 4 else "float32"
    if node.op_type not in _FLOAT:
        return None
    known = [dtypes[name] for name in node.input if name in dtypes]
    names = {TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "float64", TensorProto.BFLOAT16: "bfloat16"}
    return names.get(known[0], "float32") if known else "float32"


def _dtypes(graph: Any) -> dict[str, int]:
    """Of the inputs, the weights and what a Cast makes: one of them feeds every product."""
    found = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    found |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast":
            found[node.output[0]] = next(item.i for item in node.attribute if item.name == "to")
    return found
