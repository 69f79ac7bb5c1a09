"""The ONNX graph while it grows: which tensor is known under which name, in which layout, and what the batch is.

LiteRT keeps images as NHWC, ONNX's operators want NCHW. Each tensor stays in the layout in which it was made; the
other one is made once, when an operator asks for it. So a chain of convolutions is transposed at its two ends alone.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.optimize.from_litert.file import LiteRtFile, Operator, Quantization, Tensor

Layout = Literal["as is", "NCHW"]
AS_IS: Layout = "as is"
NCHW: Layout = "NCHW"
TO_NCHW = (0, 3, 1, 2)
TO_NHWC = (0, 2, 3, 1)
BATCH = "batch"


class NeedsFixedBatch(Exception):
    """The graph mixes samples, or names their number: it works for the batch size that is written in the file."""


class _Key(NamedTuple):
    tensor: int
    layout: Layout
    stored: bool


class Builder:
    """Operators read tensors by `real`, `integers` or `constant`, and leave their results by `put`.

    With `free_batch`, `rows` holds the tensors whose first axis counts samples.
    """

    def __init__(self, file: LiteRtFile, *, free_batch: bool) -> None:
        self.file = file
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.rows: set[int] = set()
        self.notes: set[str] = set()
        self.free_batch = free_batch
        self._names: dict[_Key, str] = {}
        self._constants: dict[int, NDArray[Any]] = {
            index: tensor.value for index, tensor in enumerate(file.tensors) if tensor.value is not None
        }
        self._taken: set[str] = set()
        self._scope = "input"

    # What there is

    def tensor(self, index: int) -> Tensor:
        return self.file.tensors[index]

    def shape(self, index: int) -> tuple[int, ...]:
        return self.tensor(index).shape

    def begin(self, number: int, operator: Operator) -> None:
        """What is added from here on is named after this operator."""
        self._scope = f"{operator.name.lower()}_{number}"

    def is_constant(self, index: int) -> bool:
        return index in self._constants

    def constant(self, index: int) -> NDArray[Any]:
        """The stored value. Raises Unsupported where it is only known while the model runs."""
        if index not in self._constants:
            raise Unsupported(f"{self._scope} takes a parameter that is computed while the model runs")
        return self._constants[index]

    def numbers(self, index: int) -> tuple[int, ...]:
        """A constant vector of integers, such as axes or a shape."""
        return tuple(int(value) for value in self.constant(index).reshape(-1))

    def real_constant(self, index: int) -> NDArray[Any]:
        """A constant's meaning: real numbers where it is quantised or half precision, else as it is stored."""
        value, quantization = self.constant(index), self.tensor(index).quantization
        if quantization is not None and value.dtype.kind in "iu":
            return dequantized(value, quantization)
        return value.astype(np.float32) if value.dtype == np.float16 else value

    # Names

    def name(self, hint: str) -> str:
        """A name that nobody has yet."""
        name, count = hint, 1
        while name in self._taken:
            name, count = f"{hint}_{count}", count + 1
        self._taken.add(name)
        return name

    def weight(self, value: NDArray[Any], hint: str = "value") -> str:
        """A new constant of the ONNX graph."""
        name = self.name(f"{self._scope}.{hint}")
        self.initializers.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def vector(self, *values: int) -> str:
        """A constant int64 vector: the form in which ONNX wants shapes, axes and sizes."""
        return self.weight(np.array(values, np.int64), "numbers")

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A new node with one output."""
        return self.node_many(kind, inputs, 1, **attributes)[0]

    def node_many(self, kind: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """A new node with `count` outputs."""
        name = self.name(f"{self._scope}.{kind}")
        outputs = [name if count == 1 else self.name(f"{name}.{index}") for index in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return outputs

    # Reading

    def native(self, index: int) -> Layout:
        """The layout in which the tensor was made."""
        made = {key.layout for key in self._names if key.tensor == index}
        return AS_IS if AS_IS in made or not made else NCHW

    def real(self, index: int, layout: Layout = AS_IS) -> str:
        """The tensor's name with its values as real numbers (integers that are no quantised reals stay integers)."""
        tensor = self.tensor(index)
        if not tensor.is_quantized:
            return self._form(index, layout, stored=False)
        key = _Key(index, layout, stored=False)
        if key not in self._names:
            stored = self._form(index, layout, stored=True)
            self._names[key] = self._dequantize(stored, tensor, layout)
        return self._names[key]

    def integers(self, index: int) -> str:
        """Shapes, sizes and places, as the int64 that ONNX wants."""
        if self.is_constant(index):
            return self.weight(self.constant(index).astype(np.int64), "numbers")
        name = self._form(index, AS_IS, stored=False)
        return name if self.tensor(index).dtype == "int64" else self.node("Cast", [name], to=onnx.TensorProto.INT64)

    def _form(self, index: int, layout: Layout, *, stored: bool) -> str:
        key = _Key(index, layout, stored)
        if key in self._names:
            return self._names[key]
        if self.is_constant(index):
            value = self.constant(index) if stored else self.real_constant(index)
            self._names[key] = self.weight(value if layout == AS_IS else value.transpose(TO_NCHW))
            return self._names[key]
        other = self._names.get(_Key(index, NCHW if layout == AS_IS else AS_IS, stored))
        if other is None:
            raise WrongInput(f"{self._scope} reads a tensor before anything has made it")
        order = TO_NCHW if layout == NCHW else TO_NHWC
        self._names[key] = self.node("Transpose", [other], perm=order)
        return self._names[key]

    def _dequantize(self, stored: str, tensor: Tensor, layout: Layout) -> str:
        scale, point, axis = self.scale_of(tensor.scales, tensor.dtype)
        axis = TO_NCHW.index(axis) if layout == NCHW and axis >= 0 else axis
        return self.node("DequantizeLinear", [stored, scale, point], **({"axis": axis} if axis >= 0 else {}))

    def scale_of(self, quantization: Quantization, dtype: str) -> tuple[str, str, int]:
        """Names of scale and zero point, and the axis along which they vary (-1: they do not)."""
        one = len(quantization.scale) == 1
        scale = quantization.scale[0] if one else quantization.scale
        point = quantization.zero_point.astype(dtype)
        return (
            self.weight(np.asarray(scale, np.float32), "scale"),
            self.weight(np.asarray(point[0] if one else point, dtype), "zero_point"),
            -1 if one else quantization.axis,
        )

    # Writing

    def put(self, index: int, name: str, layout: Layout = AS_IS, *, rows: bool = False) -> None:
        """`name` holds the values of tensor `index`. A quantised tensor rounds them, as the file's arithmetic does."""
        tensor = self.tensor(index)
        if tensor.is_quantized:
            scale, point, axis = self.scale_of(tensor.scales, tensor.dtype)
            axis = TO_NCHW.index(axis) if layout == NCHW and axis >= 0 else axis
            name = self.node("QuantizeLinear", [name, scale, point], **({"axis": axis} if axis >= 0 else {}))
        self._names[_Key(index, layout, tensor.is_quantized)] = name
        if rows:
            self.rows.add(index)

    def put_input(self, index: int, name: str, *, rows: bool) -> None:
        """The graph's input of that name is tensor `index`: its stored bytes, or its real values."""
        self._taken.add(name)
        tensor = self.tensor(index)
        if tensor.is_quantized and tensor.dtype == "uint8":
            self._names[_Key(index, AS_IS, stored=True)] = name
            if rows:
                self.rows.add(index)
        else:
            self.put(index, name, rows=rows)

    def fold(self, index: int, value: NDArray[Any]) -> None:
        """Tensor `index` is this constant."""
        self._constants[index] = value

    # The batch

    def carries(self, operator: Operator) -> bool:
        """Whether any input of the operator counts samples on its first axis."""
        return any(index in self.rows for index in operator.inputs)

    def keeps_rows(self, operator: Operator, *, when: bool = True) -> bool:
        """Whether the operator's result counts samples on its first axis; raises NeedsFixedBatch where it cannot."""
        if not self.carries(operator):
            return False
        shape = self.shape(operator.outputs[0])
        if not when or not shape or shape[0] != 1:
            raise NeedsFixedBatch
        return True

    def target(self, index: int, *, rows: bool) -> str:
        """The shape of tensor `index`, for Reshape; the batch is whatever is left over."""
        shape = self.shape(index)
        return self.vector(*((-1, *shape[1:]) if rows else shape))


def dequantized(value: NDArray[Any], quantization: Quantization) -> NDArray[np.float32]:
    """The real numbers that the stored integers stand for."""
    shape = [1] * value.ndim
    if len(quantization.scale) > 1:
        shape[quantization.axis] = -1
    scale, point = quantization.scale.reshape(shape or -1), quantization.zero_point.reshape(shape or -1)
    return np.asarray((value.astype(np.int64) - point) * scale, np.float32).reshape(value.shape)
