"""What a name in the ONNX graph stands for in the LiteRT file: a tensor, the order of its axes, its quantisation.

ONNX convolutions are planes first, LiteRT's are channels last. A value keeps the permutation from the one to the
other; ONNX Transposes change that permutation alone, and data move only where an operator insists on an order.
"""

from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported
from edgeward.optimize.exporters.litert.flat import FlatModel, Quantisation

Permutation = tuple[int, ...]

CHANNELS_LAST: Permutation = (0, 2, 3, 1)
_LEAST_HALVED = 64
"""Below so many numbers an operator takes more room than their halves save."""


class Value(NamedTuple):
    """`shape` is ONNX's; the stored tensor has axis `order[i]` of it at place i. `constant` is in ONNX's order."""

    tensor: int
    shape: tuple[int, ...]
    order: Permutation
    dtype: str
    quantisation: Quantisation | None = None
    constant: NDArray[Any] | None = None

    @property
    def stored(self) -> tuple[int, ...]:
        return tuple(self.shape[axis] for axis in self.order)

    @property
    def is_quantised(self) -> bool:
        return self.quantisation is not None

    @property
    def held(self) -> NDArray[Any]:
        """The constant. Raises Unsupported for what is computed."""
        if self.constant is None:
            raise Unsupported("LiteRT: weights that are computed while the model runs")
        return self.constant


def plain(rank: int) -> Permutation:
    """ONNX's own order."""
    return tuple(range(rank))


def dequantised(values: NDArray[Any], quantisation: Quantisation, axis: int) -> NDArray[np.float32]:
    """The float values of a quantised constant; several scales run along `axis`."""
    shape = [1] * values.ndim
    if not quantisation.is_per_tensor:
        shape[axis] = -1
    zero_points = np.asarray(quantisation.zero_points, np.float32).reshape(shape if values.ndim else ())
    scales = np.asarray(quantisation.scales, np.float32).reshape(shape if values.ndim else ())
    return np.asarray((values.astype(np.float32) - zero_points) * scales, np.float32)


class Values:
    """Changes of form: order, float or quantised. Each is made once. With `halves`, float constants that float16 holds
    are kept in that."""

    def __init__(self, flat: FlatModel, *, halves: bool = False) -> None:
        self.flat = flat
        self._halves = halves
        self._made: dict[tuple[Any, ...], Value] = {}

    def ordered(self, value: Value, order: Permutation) -> Value:
        """The value with its axes stored in `order`."""
        if value.order == order:
            return value
        if value.constant is not None:
            return self._constant_in(value, order)
        if _same_sequence(value, order):
            return self.reshaped(value, value.shape, order)
        return self._once(("transpose", value.tensor, order), lambda: self._transposed(value, order))

    def reshaped(self, value: Value, shape: tuple[int, ...], order: Permutation) -> Value:
        """The stored elements, untouched, seen as `shape` stored in `order`."""
        result = value._replace(shape=shape, order=order)
        if result.stored == value.stored:
            return result
        return self._once(("reshape", value.tensor, result.stored), lambda: self._reshape(value, result))._replace(
            shape=shape, order=order
        )

    def floating(self, value: Value) -> Value:
        """The value as float32."""
        if value.quantisation is None:
            return value
        if value.constant is not None:
            constant = dequantised(value.constant, value.quantisation, value.quantisation.axis)
            return self.constant(constant, value.order)
        return self._once(("float", value.tensor), lambda: self._dequantise(value))._replace(
            shape=value.shape, order=value.order
        )

    def quantised(self, value: Value, quantisation: Quantisation) -> Value:
        """The value as int8 with just this scale and zero point."""
        if value.quantisation == quantisation and value.dtype == "int8":
            return value
        if value.constant is not None:
            floats = value.constant
            if value.quantisation is not None:
                floats = dequantised(value.constant, value.quantisation, value.quantisation.axis)
            stored = np.clip(np.rint(floats / quantisation.scales[0]) + quantisation.zero_points[0], -128, 127)
            return self.constant(stored.astype(np.int8), value.order, quantisation)
        return self._once(("int8", value.tensor, quantisation), lambda: self._quantise(value, quantisation))._replace(
            shape=value.shape, order=value.order
        )

    def constant(
        self, values: NDArray[Any], order: Permutation | None = None, quantisation: Quantisation | None = None
    ) -> Value:
        """A constant in ONNX's order, stored in `order`. It enters the file when its tensor is asked for."""
        order = order or plain(values.ndim)
        return Value(-1, values.shape, order, str(values.dtype), quantisation, values)

    def index(self, value: Value) -> int:
        """The tensor's number in the file."""
        if value.constant is None:
            return value.tensor
        stored = np.transpose(value.constant, value.order)
        quantisation = value.quantisation
        if quantisation is not None and not quantisation.is_per_tensor:
            quantisation = quantisation._replace(axis=value.order.index(quantisation.axis))
        if self._halves and quantisation is None and _fits_half(stored):
            return self._once(("half", stored.shape, stored.tobytes()), lambda: self._from_half(stored)).tensor
        return self.flat.constant(stored, quantisation)

    def new(
        self, shape: tuple[int, ...], order: Permutation, dtype: str, quantisation: Quantisation | None = None
    ) -> Value:
        """A tensor that an operator is about to fill."""
        stored = tuple(shape[axis] for axis in order)
        return Value(self.flat.tensor(stored, dtype, quantisation), shape, order, dtype, quantisation)

    def _once(self, key: tuple[Any, ...], make: Any) -> Value:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _constant_in(self, value: Value, order: Permutation) -> Value:
        return value._replace(order=order)

    def _transposed(self, value: Value, order: Permutation) -> Value:
        result = self.new(value.shape, order, value.dtype, value.quantisation)
        moves = np.array([value.order.index(axis) for axis in order], np.int32)
        self.flat.operator(
            "TRANSPOSE", [value.tensor, self.flat.constant(moves)], [result.tensor], schema.TransposeOptionsT()
        )
        return result

    def _reshape(self, value: Value, result: Value) -> Value:
        made = self.new(result.shape, result.order, value.dtype, value.quantisation)
        shape = self.flat.constant(np.array(result.stored, np.int32))
        options = schema.ReshapeOptionsT()
        options.newShape = list(result.stored)
        self.flat.operator("RESHAPE", [self.index(value), shape], [made.tensor], options)
        return made

    def _dequantise(self, value: Value) -> Value:
        result = self.new(value.shape, value.order, "float32")
        self.flat.operator("DEQUANTIZE", [value.tensor], [result.tensor], schema.DequantizeOptionsT())
        return result

    def _from_half(self, stored: NDArray[Any]) -> Value:
        """A constant kept in two bytes a number. The runtime makes floats of it once, when the model is loaded."""
        half = self.flat.constant(stored.astype(np.float16))
        result = self.new(stored.shape, plain(stored.ndim), "float32")
        self.flat.operator("DEQUANTIZE", [half], [result.tensor], schema.DequantizeOptionsT())
        return result

    def _quantise(self, value: Value, quantisation: Quantisation) -> Value:
        if value.dtype not in ("float32", "int8", "uint8"):
            raise Unsupported(f"LiteRT: {value.dtype} cannot be quantised to int8")
        result = self.new(value.shape, value.order, "int8", quantisation)
        self.flat.operator("QUANTIZE", [value.tensor], [result.tensor], schema.QuantizeOptionsT())
        return result


def _fits_half(values: NDArray[Any]) -> bool:
    """Whether float16 holds each of these numbers as it is."""
    if values.dtype != np.float32 or values.size < _LEAST_HALVED:
        return False
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16).astype(np.float32) == values).all())


def _same_sequence(value: Value, order: Permutation) -> bool:
    """Whether only axes of length 1 would move."""
    long_before = [axis for axis in value.order if value.shape[axis] != 1]
    long_after = [axis for axis in order if value.shape[axis] != 1]
    return long_before == long_after
