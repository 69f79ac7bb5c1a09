"""Matrix products: with weights, of two computed values, and as an Einsum spells them."""

import math
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported
from edgeward.optimize.exporters.litert.conversion import Conversion, Ending, Handler
from edgeward.optimize.exporters.litert.graph import attribute
from edgeward.optimize.exporters.litert.values import Value, plain
from edgeward.optimize.exporters.litert.weighted import emit, weights_of


def gemm(conversion: Conversion, node: onnx.NodeProto) -> None:
    weight = conversion.value(node.input[1])
    has_bias = len(node.input) > 2 and bool(node.input[2])
    bias = conversion.constant(node.input[2]) if has_bias else None
    if weight.constant is None or attribute(node, "transA", 0) or (has_bias and bias is None):
        raise Unsupported("LiteRT: a Gemm with computed weights or a transposed input")
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    if not attribute(node, "transB", 0):
        weight = _turned(weight)
    if alpha != 1.0:
        weight = _scaled(weight, alpha)
    if bias is not None and beta != 1.0:
        bias = bias * beta
    _fully_connected(conversion, node.input[0], weight, bias, conversion.ending(node.output[0]))


def matmul(conversion: Conversion, node: onnx.NodeProto) -> None:
    weight = conversion.value(node.input[1])
    if weight.constant is not None and len(weight.shape) == 2:
        bias, name = _bias_behind(conversion, node)
        _fully_connected(conversion, node.input[0], _turned(weight), bias, conversion.ending(name))
        if name != node.output[0]:
            conversion.absorb((name,))
        return
    _batch_matmul(conversion, node)


def _bias_behind(conversion: Conversion, node: onnx.NodeProto) -> tuple[NDArray[Any] | None, str]:
    """The constant vector that an Add puts on a matrix product, and the name of the sum."""
    user = conversion.graph.sole_user(node.output[0])
    if user is None or user.op_type != "Add":
        return None, node.output[0]
    other = user.input[1] if user.input[0] == node.output[0] else user.input[0]
    if other not in conversion.graph.constants or conversion.graph.constants[other].ndim != 1:
        return None, node.output[0]
    return conversion.graph.constants[other], user.output[0]


def _turned(weight: Value) -> Value:
    turned = np.ascontiguousarray(weight.held.T)
    quantisation = weight.quantisation
    if quantisation is not None:
        quantisation = quantisation._replace(axis=0 if quantisation.is_per_tensor else 1 - quantisation.axis)
    return weight._replace(constant=turned, shape=turned.shape, quantisation=quantisation)


def _scaled(weight: Value, factor: float) -> Value:
    if weight.quantisation is None:
        return weight._replace(constant=(weight.held * factor).astype(np.float32))
    scales = tuple(scale * factor for scale in weight.quantisation.scales)
    return weight._replace(quantisation=weight.quantisation._replace(scales=scales))


def _fully_connected(
    conversion: Conversion, name: str, weight: Value, bias: NDArray[Any] | None, ending: Ending
) -> None:
    source = conversion.value(name)
    source = conversion.values.ordered(source, plain(len(source.shape)))
    options = schema.FullyConnectedOptionsT()
    options.keepNumDims = len(source.shape) != 2
    weights = weights_of(weight, bias, weight.shape[0])
    shape = (*source.shape[:-1], weight.shape[0])
    emit(conversion, "FULLY_CONNECTED", source, weights, ending, shape, plain(len(shape)), plain(2), options)


def _batch_matmul(conversion: Conversion, node: onnx.NodeProto) -> None:
    values = conversion.values
    pair = [conversion.value(name) for name in node.input]
    shape = conversion.shape(node.output[0])
    ending = conversion.ending(node.output[0], fuse=False)
    is_int8 = all(value.is_quantised for value in pair) and ending.quantisation is not None
    if not is_int8:
        pair = [values.floating(value) for value in pair]
    pair = [values.ordered(value, plain(len(value.shape))) for value in pair]
    if min(len(value.shape) for value in pair) < 2:
        raise Unsupported("LiteRT: a MatMul with a vector")
    result = conversion.result(ending if is_int8 else ending._replace(quantisation=None), shape)
    options = schema.BatchMatMulOptionsT()
    conversion.flat.operator("BATCH_MATMUL", [values.index(value) for value in pair], [result.tensor], options)
    if ending.quantisation is not None:
        result = values.quantised(result, ending.quantisation)
    conversion.finish(ending, result)


def einsum(conversion: Conversion, node: onnx.NodeProto) -> None:
    """Of two values, as a matrix product over the axes that vanish; shared axes that stay are its batch."""
    left, right, out = _letters(attribute(node, "equation"))
    values = conversion.values
    pair = [values.floating(conversion.value(name)) for name in node.input]
    sizes = dict(zip(left + right, (*pair[0].shape, *pair[1].shape), strict=True))
    shared = [letter for letter in left if letter in right and letter in out]
    summed = [letter for letter in left if letter in right and letter not in out]
    rows = [letter for letter in left if letter not in right]
    columns = [letter for letter in right if letter not in left]
    if not set(rows + columns) <= set(out):
        raise Unsupported("LiteRT: an Einsum that sums over an axis of one value alone")

    def length(letters: list[str]) -> int:
        return math.prod(sizes[letter] for letter in letters)

    batch = tuple(sizes[letter] for letter in shared)
    first = _as(conversion, pair[0], left, [*shared, *rows, *summed], (*batch, length(rows), length(summed)))
    second = _as(conversion, pair[1], right, [*shared, *summed, *columns], (*batch, length(summed), length(columns)))
    result = _product(conversion, first, second, (*batch, length(rows), length(columns)))
    order = [*shared, *rows, *columns]
    result = values.reshaped(result, tuple(sizes[letter] for letter in order), plain(len(order)))
    shape = tuple(sizes[letter] for letter in out)
    conversion.tell(node.output[0], result._replace(shape=shape, order=tuple(out.index(letter) for letter in order)))


def _letters(equation: str) -> tuple[str, str, str]:
    """The axes of both values and of the result, one letter each."""
    inputs, arrow, out = equation.replace(" ", "").partition("->")
    parts = inputs.split(",")
    if len(parts) != 2 or "." in equation or any(len(set(part)) != len(part) for part in parts):
        raise Unsupported(f"LiteRT: the Einsum {equation!r}")
    if not arrow:
        out = "".join(sorted(letter for letter in set(inputs) if inputs.count(letter) == 1 and letter != ","))
    return parts[0], parts[1], out


def _as(conversion: Conversion, value: Value, letters: str, order: list[str], shape: tuple[int, ...]) -> Value:
    value = conversion.values.ordered(value, tuple(letters.index(letter) for letter in order))
    if value.constant is not None:
        return conversion.values.constant(np.ascontiguousarray(value.constant.transpose(value.order)).reshape(shape))
    return conversion.values.reshaped(value, shape, plain(len(shape)))


def _product(conversion: Conversion, first: Value, second: Value, shape: tuple[int, ...]) -> Value:
    result = conversion.values.new(shape, plain(len(shape)), "float32")
    tensors = [conversion.values.index(value) for value in (first, second)]
    if second.constant is not None and len(shape) == 2:
        tensors = [tensors[0], conversion.flat.constant(np.ascontiguousarray(second.constant.T)), -1]
        conversion.flat.operator("FULLY_CONNECTED", tensors, [result.tensor], schema.FullyConnectedOptionsT())
    else:
        conversion.flat.operator("BATCH_MATMUL", tensors, [result.tensor], schema.BatchMatMulOptionsT())
    return result


HANDLERS: dict[str, Handler] = {
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
}
