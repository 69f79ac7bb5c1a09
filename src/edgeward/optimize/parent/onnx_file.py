"""An ONNX file with QuantizeLinear/DequantizeLinear pairs, as its constants and how it is built."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeward.kit.errors import WrongInput
from edgeward.optimize.parent.stored import Bias, Constant, Scale

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_LAYERS = ("Conv", "ConvTranspose", "Gemm")


class OnnxFile:
    def __init__(self, data: bytes) -> None:
        """Raises WrongInput for bytes that are no ONNX model."""
        try:
            self._model = onnx.load_model_from_string(data)
        except DecodeError as error:
            raise WrongInput("the parent's model is no ONNX model, or a damaged one") from error
        graph = self._model.graph
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        uses = [(node, name) for node in graph.node for name in self._held(node)]
        self.constants = tuple(self._constant(node, name) for node, name in uses)
        self._number = {node.output[0]: number for number, (node, _) in enumerate(uses) if node.op_type == _PAIR[1]}
        self.biases: Mapping[int, Bias] = dict(self._found_biases())
        self.signature = tuple(self._lines())

    def rewritten(self, values: Mapping[int, NDArray[Any]], steps: Mapping[int, NDArray[np.float32]]) -> bytes:
        copy = onnx.ModelProto()
        copy.CopyFrom(self._model)
        tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
        for number, new in values.items():
            _replace(tensors[str(self.constants[number].place)], new)
        for number, new in steps.items():
            _replace(tensors[str(self.constants[number].scale_place)], new)
        return bytes(copy.SerializeToString())

    def _held(self, node: onnx.NodeProto) -> Iterator[str]:
        """The constants that a node reads, but for scales and zero points."""
        for name in node.input[:1] if node.op_type in _PAIR else node.input:
            if name in self._tensors:
                yield name

    def _array(self, name: str) -> NDArray[Any]:
        return np.asarray(numpy_helper.to_array(self._tensors[name]))

    def _constant(self, node: onnx.NodeProto, name: str) -> Constant:
        values = self._array(name)
        if node.op_type != _PAIR[1] or node.input[1] not in self._tensors:
            return Constant(name, values)
        has_zero = len(node.input) > 2 and node.input[2] in self._tensors
        zero = self._array(node.input[2]) if has_zero else np.zeros(1, values.dtype)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        scale = Scale(self._array(node.input[1]), zero.reshape(-1).astype(np.int64), axis % max(values.ndim, 1))
        return Constant(name, values, scale, node.input[1])

    def _found_biases(self) -> Iterator[tuple[int, Bias]]:
        for node in self._model.graph.node:
            if node.op_type not in _LAYERS or len(node.input) < 3:
                continue
            weight, bias = self._number.get(node.input[1]), self._number.get(node.input[2])
            if weight is not None and bias is not None:
                yield bias, Bias(weight, self._result_step(node.output[0]))

    def _result_step(self, name: str) -> float | None:
        """The step that a value is rounded to, at once or behind its activation."""
        for _ in range(2):
            users = self._users.get(name, [])
            if len(users) != 1:
                return None
            if users[0].op_type == _PAIR[0] and users[0].input[1] in self._tensors:
                return float(self._array(users[0].input[1]).reshape(-1)[0])
            name = users[0].output[0]
        return None

    def _means(self, node: onnx.NodeProto) -> str:
        """The zero points of a computed value's channels: what is taken off pixels, and no scale that may be shared."""
        is_entry = node.op_type == _PAIR[1] and node.input[0] not in self._tensors and len(node.input) > 2
        zeros = self._array(node.input[2]) if is_entry and node.input[2] in self._tensors else np.zeros(0)
        return f" - {zeros.tolist()}" if zeros.size > 1 else ""

    def _lines(self) -> Iterator[str]:
        """Computed values have numbers in the order in which they appear, constants their kind and shape."""
        seen: dict[str, str] = {"": "-"}
        graph = self._model.graph
        for tensor in self._tensors.values():
            seen[tensor.name] = f"{onnx.TensorProto.DataType.Name(tensor.data_type).lower()}{list(tensor.dims)}"
        for value in graph.input:
            dims = [dim.dim_value if dim.HasField("dim_value") else "?" for dim in value.type.tensor_type.shape.dim]
            seen[value.name] = f"{value.name}:{value.type.tensor_type.elem_type}{dims}"
        for node in graph.node:
            given = ", ".join(seen.setdefault(name, f"#{len(seen)}") for name in node.input)
            made = ", ".join(seen.setdefault(name, f"#{len(seen)}") for name in node.output)
            yield f"{node.op_type} {_attributes(node)} ({given}){self._means(node)} -> {made}"
        yield " ".join(f"{value.name}={seen.get(value.name, '?')}" for value in graph.output)


def _attributes(node: onnx.NodeProto) -> str:
    found = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    return " ".join(f"{name}={found[name]}" for name in sorted(found))


def _replace(tensor: onnx.TensorProto, values: NDArray[Any]) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    new = numpy_helper.from_array(np.ascontiguousarray(values, dtype).reshape(tuple(tensor.dims)), tensor.name)
    tensor.CopyFrom(new)
