"""Operators that work on each element: arithmetic with broadcasting, activations, casts."""

from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema

from edgeward.kit.errors import Unsupported
from edgeward.optimize.exporters.litert.conversion import Conversion, Handler
from edgeward.optimize.exporters.litert.flat import Quantisation
from edgeward.optimize.exporters.litert.graph import attribute
from edgeward.optimize.exporters.litert.values import Permutation, Value, plain

_ARITHMETIC = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "DIV"}
_INT8_ARITHMETIC = ("Add", "Sub", "Mul")
_OTHER_BINARY = {"Max": "MAXIMUM", "Min": "MINIMUM", "Pow": "POW"}
_UNARY = {
    "Abs": "ABS", "Ceil": "CEIL", "Cos": "COS", "Exp": "EXP", "Floor": "FLOOR", "HardSwish": "HARD_SWISH",
    "Log": "LOG", "Neg": "NEG", "Relu": "RELU", "Round": "ROUND", "Sigmoid": "LOGISTIC", "Sin": "SIN", "Sqrt": "SQRT",
    "Tanh": "TANH",
}  # fmt: skip
_FIXED_SCALES = {
    "Sigmoid": Quantisation((1 / 256,), (-128,)),
    "Tanh": Quantisation((1 / 128,), (0,)),
}
"""The only int8 results that LiteRT has for these two."""
_NARROW = 16
"""Fewer channels than that fill no vector."""
_LONGEST_ROW = 8192
_OPTIONS = {
    "ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT, "DIV": schema.DivOptionsT,
    "MAXIMUM": schema.MaximumMinimumOptionsT, "MINIMUM": schema.MaximumMinimumOptionsT, "POW": schema.PowOptionsT,
    "ABS": schema.AbsOptionsT, "COS": schema.CosOptionsT, "EXP": schema.ExpOptionsT,
    "HARD_SWISH": schema.HardSwishOptionsT, "NEG": schema.NegOptionsT, "GELU": schema.GeluOptionsT,
    "SQUARE": schema.SquareOptionsT, "CAST": schema.CastOptionsT, "LEAKY_RELU": schema.LeakyReluOptionsT,
    "SQUARED_DIFFERENCE": schema.SquaredDifferenceOptionsT,
}  # fmt: skip


def options_of(name: str) -> Any:
    """Empty options of an operator, None where it has none."""
    return _OPTIONS[name]() if name in _OPTIONS else None


def arithmetic(conversion: Conversion, node: onnx.NodeProto) -> None:
    """Add, Sub, Mul, Div: in int8 where both sides and the result are."""
    pair = [conversion.value(name) for name in node.input]
    shape = conversion.shape(node.output[0])
    ending = conversion.ending(node.output[0], fuse=pair[0].dtype not in ("int32", "int64"))
    is_int8 = (
        node.op_type in _INT8_ARITHMETIC
        and ending.quantisation is not None
        and all(value.is_quantised and (value.quantisation or ending.quantisation).is_per_tensor for value in pair)
    )
    if not is_int8:
        pair = [conversion.values.floating(value) for value in pair]
    pair, order = aligned(conversion, pair, shape)
    pair = [_along_rows(value, shape, order) for value in pair]
    dtype = "int8" if is_int8 else pair[0].dtype
    result = conversion.values.new(shape, order, dtype, ending.quantisation if is_int8 else None)
    name = _ARITHMETIC[node.op_type]
    options = options_of(name)
    options.fusedActivationFunction = getattr(schema.ActivationFunctionType, ending.activation)
    conversion.flat.operator(name, [conversion.values.index(value) for value in pair], [result.tensor], options)
    if ending.quantisation is not None:
        result = conversion.values.quantised(result, ending.quantisation)
    conversion.finish(ending, result)


def _along_rows(value: Value, shape: tuple[int, ...], order: Permutation) -> Value:
    """A constant of a few channels, such as a mean, repeated for a whole row of pixels: XNNPACK takes the innermost
    axis at a time, and three values a time are twenty times as slow."""
    if value.constant is None or len(value.shape) != len(shape) or len(shape) < 3:
        return value
    row, last = order[-2], order[-1]
    is_narrow = 1 < shape[last] < _NARROW and value.shape[last] == shape[last] and value.shape[row] == 1 < shape[row]
    if not is_narrow or value.constant.size * shape[row] > _LONGEST_ROW:
        return value
    repeated = np.repeat(value.constant, shape[row], axis=row)
    return value._replace(constant=repeated, shape=repeated.shape)


def binary(conversion: Conversion, node: onnx.NodeProto) -> None:
    """Max, Min and Pow, in float; Max and Min of more than two are done two by two."""
    if node.op_type == "Pow" and _is_two(conversion, node.input[1]):
        squared(conversion, node)
        return
    shape = conversion.shape(node.output[0])
    total = conversion.values.floating(conversion.value(node.input[0]))
    for name in node.input[1:]:
        total = compute(conversion, _OTHER_BINARY[node.op_type], [total, conversion.value(name)], shape)
    conversion.tell(node.output[0], total)


def squared(conversion: Conversion, node: onnx.NodeProto) -> None:
    source = conversion.values.floating(conversion.value(node.input[0]))
    conversion.tell(node.output[0], compute(conversion, "SQUARE", [source], source.shape))


def total(conversion: Conversion, node: onnx.NodeProto) -> None:
    """Sum: Adds one after the other."""
    shape = conversion.shape(node.output[0])
    result = conversion.values.floating(conversion.value(node.input[0]))
    for name in node.input[1:]:
        result = compute(conversion, "ADD", [result, conversion.value(name)], shape)
    conversion.tell(node.output[0], result)


def compute(
    conversion: Conversion, name: str, operands: list[Value], shape: tuple[int, ...], options: Any = None
) -> Value:
    """One operator in float over operands that broadcast to `shape`."""
    operands = [conversion.values.floating(value) for value in operands]
    operands, order = aligned(conversion, operands, shape)
    result = conversion.values.new(shape, order, operands[0].dtype)
    tensors = [conversion.values.index(value) for value in operands]
    conversion.flat.operator(name, tensors, [result.tensor], options if options is not None else options_of(name))
    return result


def aligned(conversion: Conversion, operands: list[Value], shape: tuple[int, ...]) -> tuple[list[Value], Permutation]:
    """The operands with the rank of the result where axes are out of order, and the order that they share."""
    rank = len(shape)
    order = next(
        (value.order for value in operands if value.constant is None and len(value.shape) == rank), plain(rank)
    )
    is_plain = order == plain(rank)
    values = conversion.values
    found = []
    for value in operands:
        if len(value.shape) == rank:
            found.append(values.ordered(value, order))
        elif is_plain:
            found.append(values.ordered(value, plain(len(value.shape))))
        else:
            found.append(values.ordered(_widened(conversion, value, rank), order))
    return found, order


def _widened(conversion: Conversion, value: Value, rank: int) -> Value:
    shape = (*[1] * (rank - len(value.shape)), *value.shape)
    if value.constant is not None:
        return value._replace(constant=value.constant.reshape(shape), shape=shape, order=plain(rank))
    return conversion.values.reshaped(conversion.values.ordered(value, plain(len(value.shape))), shape, plain(rank))


def unary(conversion: Conversion, node: onnx.NodeProto) -> None:
    """Activations and functions of one value: float, but for those that int8 has."""
    source = conversion.value(node.input[0])
    if source.constant is None and node.op_type == "Relu" and source.is_quantised:
        conversion.tell(node.output[0], _same(conversion, "RELU", source))
        return
    fixed = _FIXED_SCALES.get(node.op_type)
    if fixed is not None and source.is_quantised and conversion.ending(node.output[0]).quantisation is not None:
        result = conversion.values.new(source.shape, source.order, "int8", fixed)
        conversion.flat.operator(_UNARY[node.op_type], [source.tensor], [result.tensor])
        conversion.tell(node.output[0], result)
        return
    conversion.tell(node.output[0], compute(conversion, _UNARY[node.op_type], [source], source.shape))


def _same(conversion: Conversion, name: str, source: Value, options: Any = None) -> Value:
    """An operator whose int8 result keeps the scale of its input."""
    result = conversion.values.new(source.shape, source.order, source.dtype, source.quantisation)
    conversion.flat.operator(name, [conversion.values.index(source)], [result.tensor], options)
    return result


def leaky_relu(conversion: Conversion, node: onnx.NodeProto) -> None:
    options = schema.LeakyReluOptionsT()
    options.alpha = attribute(node, "alpha", 0.01)
    source = conversion.value(node.input[0])
    result = (
        _same(conversion, "LEAKY_RELU", source, options)
        if source.constant is None
        else compute(conversion, "LEAKY_RELU", [source], source.shape, options)
    )
    conversion.tell(node.output[0], result)


def prelu(conversion: Conversion, node: onnx.NodeProto) -> None:
    pair = [conversion.value(name) for name in node.input]
    conversion.tell(node.output[0], compute(conversion, "PRELU", pair, pair[0].shape))


def gelu(conversion: Conversion, node: onnx.NodeProto) -> None:
    options = schema.GeluOptionsT()
    options.approximate = attribute(node, "approximate", "none") == "tanh"
    source = conversion.value(node.input[0])
    conversion.tell(node.output[0], compute(conversion, "GELU", [source], source.shape, options))


def clip(conversion: Conversion, node: onnx.NodeProto) -> None:
    low, high = conversion.bounds(node)
    source = conversion.value(node.input[0])
    if (low, high) == (0.0, 6.0) and source.constant is None:
        conversion.tell(node.output[0], _same(conversion, "RELU6", source))
        return
    result = source
    for name, limit in (("MAXIMUM", low), ("MINIMUM", high)):
        if limit is not None:
            bound = conversion.values.constant(np.array(limit, np.float32))
            result = compute(conversion, name, [result, bound], source.shape)
    conversion.tell(node.output[0], result)


def hard_sigmoid(conversion: Conversion, node: onnx.NodeProto) -> None:
    """max(0, min(1, alpha × x + beta)) as relu6(6 × alpha × x + 6 × beta) ÷ 6."""
    alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
    source = conversion.value(node.input[0])
    six = [conversion.values.constant(np.array(6 * factor, np.float32)) for factor in (alpha, beta)]
    result = compute(conversion, "MUL", [source, six[0]], source.shape)
    result = compute(conversion, "ADD", [result, six[1]], source.shape)
    result = compute(conversion, "RELU6", [result], source.shape)
    sixth = conversion.values.constant(np.array(1 / 6, np.float32))
    conversion.tell(node.output[0], compute(conversion, "MUL", [result, sixth], source.shape))


def reciprocal(conversion: Conversion, node: onnx.NodeProto) -> None:
    one = conversion.values.constant(np.array(1.0, np.float32))
    source = conversion.value(node.input[0])
    conversion.tell(node.output[0], compute(conversion, "DIV", [one, source], source.shape))


def cast(conversion: Conversion, node: onnx.NodeProto) -> None:
    to = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(attribute(node, "to"))).name
    source = conversion.value(node.input[0])
    if to not in ("float32", "int32", "int64", "uint8", "int8", "bool"):
        raise Unsupported(f"LiteRT: a Cast to {to}")
    if source.quantisation is not None:
        source = conversion.values.floating(source)
    if source.dtype == to:
        conversion.tell(node.output[0], source)
        return
    if source.constant is not None:
        conversion.tell(node.output[0], conversion.values.constant(source.constant.astype(to)))
        return
    result = conversion.values.new(source.shape, source.order, to)
    conversion.flat.operator("CAST", [source.tensor], [result.tensor], schema.CastOptionsT())
    conversion.tell(node.output[0], result)


def alias(conversion: Conversion, node: onnx.NodeProto) -> None:
    """Identity and Dropout: nothing happens."""
    conversion.tell(node.output[0], conversion.value(node.input[0]))


def _is_two(conversion: Conversion, name: str) -> bool:
    value = conversion.value(name).constant
    return value is not None and value.size == 1 and float(value.reshape(())) == 2.0


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(_ARITHMETIC, arithmetic),
    **dict.fromkeys(_OTHER_BINARY, binary),
    **dict.fromkeys(_UNARY, unary),
    "Cast": cast,
    "Clip": clip,
    "Dropout": alias,
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "Identity": alias,
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Reciprocal": reciprocal,
    "Sum": total,
}
