"""A LiteRT file as its constants and how it is built; rewritten in place, byte by byte."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported
from edgeward.optimize.from_litert import decode
from edgeward.optimize.from_litert.file import Operator, Tensor
from edgeward.optimize.parent.stored import Bias, Constant, Scale

_LAYERS = {"CONV_2D": (1, 2), "DEPTHWISE_CONV_2D": (1, 2), "FULLY_CONNECTED": (1, 2), "TRANSPOSE_CONV": (1, 3)}
"""Where among an operator's inputs its weights and its bias stand."""


class LiteRtStored:
    def __init__(self, data: bytes) -> None:
        """Raises what `decode` raises for bytes that are no LiteRT model."""
        self._data = data
        self._file = decode(data)
        tensors = self._file.tensors
        uses = [
            (index, place, number)
            for index, operator in enumerate(self._file.operators)
            for place, number in enumerate(operator.inputs)
            if number >= 0 and tensors[number].value is not None
        ]
        self.constants = tuple(_constant(number, tensors[number]) for _, _, number in uses)
        self._number = {(index, place): number for number, (index, place, _) in enumerate(uses)}
        self.biases: Mapping[int, Bias] = dict(self._found_biases())
        self.signature = tuple(self._lines())

    def rewritten(self, values: Mapping[int, NDArray[Any]], steps: Mapping[int, NDArray[np.float32]]) -> bytes:
        data = bytearray(self._data)
        root = schema.Model.GetRootAs(data, 0)
        graph = root.Subgraphs(0)
        for number, new in values.items():
            stored = root.Buffers(graph.Tensors(self.constants[number].place).Buffer()).DataAsNumpy()
            raw = np.ascontiguousarray(new, self.constants[number].values.dtype).reshape(-1).view(np.uint8)
            if isinstance(stored, int) or stored.size != raw.size:
                raise Unsupported("the parent keeps its weights outside the file's buffers, or in less than a byte")
            stored[:] = raw
        for number, step in steps.items():
            graph.Tensors(self.constants[number].place).Quantization().ScaleAsNumpy()[:] = step.reshape(-1)
        return bytes(data)

    def _found_biases(self) -> Iterator[tuple[int, Bias]]:
        for index, operator in enumerate(self._file.operators):
            places = _LAYERS.get(operator.name, (-1, -1))
            weight, bias = (self._number.get((index, place)) for place in places)
            if weight is None or bias is None or self.constants[bias].scale is None:
                continue
            result = self._file.tensors[operator.outputs[0]].quantization
            yield bias, Bias(weight, None if result is None else float(result.scale[0]))

    def _lines(self) -> Iterator[str]:
        seen: dict[int, str] = {-1: "-"}
        for number, tensor in enumerate(self._file.tensors):
            if tensor.value is not None:
                seen[number] = f"{tensor.dtype}{list(tensor.shape)}"
        for name, number in self._file.inputs:
            seen[number] = f"{name}:{self._file.tensors[number].dtype}{list(self._file.tensors[number].shape)}"
        for operator in self._file.operators:
            given = ", ".join(seen.setdefault(number, f"#{len(seen)}") for number in operator.inputs)
            made = ", ".join(seen.setdefault(number, f"#{len(seen)}") for number in operator.outputs)
            yield f"{operator.name} {_options(operator)} ({given}) -> {made}"
        yield " ".join(f"{name}={seen.get(number, '?')}" for name, number in self._file.outputs)


def _constant(number: int, tensor: Tensor) -> Constant:
    values = np.asarray(tensor.value)
    found = tensor.quantization
    if found is None:
        return Constant(number, values)
    return Constant(number, values, Scale(found.scale, found.zero_point, found.axis), number)


def _options(operator: Operator) -> str:
    found = {} if operator.options is None else vars(operator.options)
    return " ".join(f"{name}={np.asarray(value).tolist()}" for name, value in sorted(found.items()))
