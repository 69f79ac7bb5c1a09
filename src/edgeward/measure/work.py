"""How many multiply-accumulates an operator is, from its shapes alone: one rule for every graph format."""

import math
from typing import Literal

Shape = tuple[int, ...]
Kind = Literal["conv", "transposed-conv", "depthwise-conv", "product", "recurrent"]

KINDS: dict[str, Kind] = {
    "Conv": "conv", "FusedConv": "conv", "QLinearConv": "conv", "ConvInteger": "conv", "NhwcConv": "conv",
    "ConvTranspose": "transposed-conv", "Gemm": "product", "MatMul": "product", "QLinearMatMul": "product",
    "MatMulInteger": "product", "QGemm": "product", "FusedMatMul": "product", "FusedGemm": "product",
    "DynamicQuantizeMatMul": "product", "MatMulIntegerToFloat": "product",
    "CONV_2D": "conv", "DEPTHWISE_CONV_2D": "depthwise-conv", "TRANSPOSE_CONV": "transposed-conv",
    "FULLY_CONNECTED": "product", "BATCH_MATMUL": "product",
    "LSTM": "recurrent", "GRU": "recurrent", "RNN": "recurrent",
}  # fmt: skip
"""The operators of ONNX and LiteRT that multiply."""

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def weight_place(op: str) -> int:
    """Which of an operator's inputs holds its weights."""
    return {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}.get(op, 1)


def multiply_accumulates(op: str, first: Shape, weight: Shape, output: Shape, *, turned: bool = False) -> int:
    """Of one run, a bias not counted; 0 for an operator that multiplies nothing.

    `first` is the shape of its first input; of a product, `turned` says that this one is transposed.
    """
    match KINDS.get(op):
        case "conv":
            return math.prod(output) * math.prod(weight[1:])
        case "depthwise-conv":
            return math.prod(output) * math.prod(weight[1:3])
        case "transposed-conv":
            return math.prod(first) * math.prod(weight[1:])
        case "product":
            return math.prod(output) * (first[-2] if turned and len(first) > 1 else first[-1] if first else 1)
        case "recurrent":
            steps, batch, width = (*first, 1, 1, 1)[:3]
            hidden, directions = weight[-2] // _GATES[op], weight[0]
            return steps * batch * directions * _GATES[op] * hidden * (width + hidden)
        case _:
            return 0
