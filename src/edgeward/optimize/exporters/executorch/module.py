"""An ONNX graph as a torch module that torch.export can read, quantise nodes as torch's own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
import torch.ao.quantization.fx._decomposed  # it registers torch.ops.quantized_decomposed
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional

from edgeward.kit.errors import Unsupported
from edgeward.optimize.torch_operators import OPERATORS

Arrays = dict[str, NDArray[Any]]

_SHIFTS = {"int8": 0, "uint8": 128}
"""The patterns of XNNPACK hold int8: unsigned values are moved down by this much."""

_BY_VALUE = frozenset({
    "Clip", "Expand", "Pad", "ReduceMax", "ReduceMean", "ReduceSum", "Reshape", "Resize", "Slice", "Split", "Squeeze",
    "Unsqueeze",
})  # fmt: skip
"""Their constant inputs are plain numbers while the graph is traced, no tensors."""
_TURNED = "/turned"


class OnnxModule(nn.Module):
    """Answers as the graph does. Raises Unsupported, naming the operator, for what has no torch function here."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        graph = model.graph
        self._arrays: Arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._inputs = [node.name for node in graph.input if node.name not in self._arrays]
        self._outputs = [node.name for node in graph.output]
        self._tensors = nn.ModuleDict()
        self._nodes: list[tuple[onnx.NodeProto, dict[str, Any]]] = []
        self._keys: dict[str, str] = {}
        dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
        weights: dict[str, onnx.NodeProto] = {}
        for node in graph.node:
            if node.op_type == "Constant":
                self._arrays[node.output[0]] = _constant(node)
            elif node.op_type == "DequantizeLinear" and node.input[0] in self._arrays:
                weights[node.output[0]] = node
            else:
                self._add(node, weights, dequantised)

    def forward(self, *values: Any) -> tuple[Any, ...]:
        known: dict[str, Any] = {"": None, **dict(zip(self._inputs, values, strict=True))}
        for node, given in self._nodes:
            inputs = [self._input(node, name, known) for name in node.input]
            if node.op_type == "DequantizeLinear":
                known[node.output[0]] = _Later(given, inputs)
                continue
            made = _FUNCTIONS[node.op_type](given, inputs)
            for name, part in zip(node.output, made if isinstance(made, tuple) else (made,), strict=False):
                known[name] = part
        return tuple(self._input(None, name, known) for name in self._outputs)

    def _input(self, node: onnx.NodeProto | None, name: str, known: Mapping[str, Any]) -> Any:
        if name in known:
            return known[name].now() if isinstance(known[name], _Later) else known[name]
        if node is not None and node.op_type in _BY_VALUE and name in self._arrays:
            return self._arrays[name]
        if name not in self._keys:
            raise Unsupported(f"ExecuTorch: the graph reads {name!r}, which nothing in it makes")
        return self._tensors[self._keys[name]]()

    def _add(self, node: onnx.NodeProto, weights: Mapping[str, onnx.NodeProto], dequantised: set[str]) -> None:
        """The node with its constants: quantised weights stay so where what they meet is quantised too."""
        if node.domain not in ("", "ai.onnx") or node.op_type not in _FUNCTIONS:
            raise Unsupported(f"ExecuTorch: the operator {node.op_type} has no torch function here")
        mine = onnx.NodeProto()
        mine.CopyFrom(node)
        given = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            given |= _steps(node, self._arrays)
            del mine.input[1:]
        turned = node.op_type == "MatMul" or (node.op_type == "Gemm" and not given.get("transB", 0))
        for place, name in enumerate(node.input[: len(mine.input)]):
            if name not in weights and name not in self._arrays:
                continue
            is_turned = turned and place == 1 and self._rank(name, weights) == 2
            mine.input[place] = name + _TURNED if is_turned else name
            if is_turned:
                given["turned"] = True
            if mine.input[place] not in self._keys:
                keep = place == 1 and node.input[0] in dequantised
                self._store(mine.input[place], _tensor(name, self._arrays, weights, keep, turn=is_turned))
        self._nodes.append((mine, {**given, "outputs": len(node.output)}))

    def _rank(self, name: str, weights: Mapping[str, onnx.NodeProto]) -> int:
        return self._arrays[weights[name].input[0] if name in weights else name].ndim

    def _store(self, name: str, tensor: nn.Module) -> None:
        self._keys[name] = str(len(self._keys))
        self._tensors[self._keys[name]] = tensor


class _Later(NamedTuple):
    """A value that is dequantised once for each node that reads it: XNNPACK's patterns hold the reader and its
    dequantisation, and two readers of one would be a circle."""

    given: Mapping[str, Any]
    inputs: Sequence[Any]

    def now(self) -> Any:
        return _dequantize(self.given, self.inputs)


class _Plain(nn.Module):
    """A constant."""

    def __init__(self, value: NDArray[Any]) -> None:
        super().__init__()
        self.register_buffer("value", torch.from_numpy(np.array(value)))

    def forward(self) -> Any:
        return self.value


class _Quantised(nn.Module):
    """A weight in int8, dequantised by the function that XNNPACK looks for."""

    def __init__(self, value: NDArray[np.int8], scales: NDArray[np.float32], axis: int) -> None:
        super().__init__()
        self.register_buffer("value", torch.from_numpy(np.array(value)))
        self.register_buffer("scales", torch.from_numpy(np.array(scales, np.float32).reshape(-1)))
        self.register_buffer("zeros", torch.zeros(scales.size, dtype=torch.int64))
        self.axis, self.alone = axis, float(scales.reshape(-1)[0]) if scales.size == 1 else None
        self.low = min(-127, int(value.min(initial=0)))

    def forward(self) -> Any:
        known = torch.ops.quantized_decomposed
        if self.alone is not None:
            return known.dequantize_per_tensor(self.value, self.alone, 0, self.low, 127, torch.int8)
        return known.dequantize_per_channel(self.value, self.scales, self.zeros, self.axis, self.low, 127, torch.int8)


def _tensor(
    name: str, arrays: Arrays, weights: Mapping[str, onnx.NodeProto], keep: bool, *, turn: bool
) -> _Plain | _Quantised:
    if name not in weights:
        return _Plain(arrays[name].T if turn else arrays[name])
    node = weights[name]
    value, scales = arrays[node.input[0]], arrays[node.input[1]]
    zeros = arrays[node.input[2]] if len(node.input) > 2 else np.zeros_like(scales, value.dtype)
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1) % max(1, value.ndim)
    if keep and value.dtype == np.int8 and not zeros.any():
        return _Quantised(value.T if turn else value, scales, value.ndim - 1 - axis if turn else axis)
    wide = [-1 if place == axis else 1 for place in range(value.ndim)] if scales.size > 1 else [1] * value.ndim
    real = (value.astype(np.float32) - zeros.astype(np.float32).reshape(wide)) * scales.reshape(wide)
    return _Plain((real.T if turn else real).astype(np.float32))


def _constant(node: onnx.NodeProto) -> NDArray[Any]:
    value = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if "value" in value:
        return numpy_helper.to_array(value["value"])
    return np.array(next(iter(value.values())))


def _steps(node: onnx.NodeProto, arrays: Arrays) -> dict[str, Any]:
    """The scale and the zero point, in int8. Raises Unsupported where they are not one constant each of eight bits."""
    if any(name not in arrays for name in node.input[1:]) or arrays[node.input[1]].size != 1:
        raise Unsupported(f"ExecuTorch: {node.op_type} of {node.input[0]!r} has no constant scale of one value")
    zero = arrays[node.input[2]] if len(node.input) > 2 else np.zeros((), np.uint8)
    if zero.dtype.name not in _SHIFTS:
        raise Unsupported(f"ExecuTorch: {node.op_type} in {zero.dtype} is not supported, only in 8 bits")
    shift = _SHIFTS[zero.dtype.name]
    return {"scale": float(arrays[node.input[1]].item()), "zero": int(zero.item()) - shift, "shift": shift}


def _quantize(given: Mapping[str, Any], inputs: Sequence[Any]) -> Any:
    made = torch.ops.quantized_decomposed.quantize_per_tensor
    return made(inputs[0], given["scale"], given["zero"], -128, 127, torch.int8)


def _dequantize(given: Mapping[str, Any], inputs: Sequence[Any]) -> Any:
    value = inputs[0]
    if value.dtype == torch.uint8:  # an input of the graph: inside it all is int8
        # Down by 128, by the bit of that value: ExecuTorch's subtraction takes four times as long.
        value = torch.bitwise_xor(value, given["shift"]).to(torch.int8)
    made = torch.ops.quantized_decomposed.dequantize_per_tensor
    return made(value, given["scale"], given["zero"], -128, 127, torch.int8)


def _gemm(given: Mapping[str, Any], inputs: Sequence[Any]) -> Any:
    is_plain = given.get("alpha", 1.0) == 1.0 and given.get("beta", 1.0) == 1.0 and not given.get("transA", 0)
    bias = inputs[2] if len(inputs) > 2 else None
    if not is_plain or not (given.get("turned") or given.get("transB", 0)) or (bias is not None and bias.ndim != 1):
        turned = {**given, "transB": 1} if given.get("turned") else given
        return OPERATORS["Gemm"](turned, inputs)
    return functional.linear(inputs[0], inputs[1], bias)


def _matmul(given: Mapping[str, Any], inputs: Sequence[Any]) -> Any:
    return functional.linear(inputs[0], inputs[1]) if given.get("turned") else torch.matmul(inputs[0], inputs[1])


def _slice(given: Mapping[str, Any], inputs: Sequence[Any]) -> Any:
    listed = [None if item is None else [int(one) for one in item] for item in inputs[1:]]
    starts = listed[0] if listed else given["starts"]
    ends = listed[1] if listed else given["ends"]
    axes = (listed[2] if len(listed) > 2 else given.get("axes")) or range(len(starts))
    steps = (listed[3] if len(listed) > 3 else None) or [1] * len(starts)
    places: list[Any] = [slice(None)] * inputs[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:
            raise Unsupported("ExecuTorch: Slice with a negative step is not supported")
        places[axis] = slice(start, end, step)
    return inputs[0][tuple(places)]


_FUNCTIONS = {
    **OPERATORS, "DequantizeLinear": _dequantize, "Gemm": _gemm, "MatMul": _matmul, "QuantizeLinear": _quantize,
    "Slice": _slice,
}  # fmt: skip
