"""Normalisations: by stored statistics, and by those of the value itself."""

from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema

from edgeward.kit.errors import Unsupported
from edgeward.optimize.exporters.litert.conversion import Conversion, Handler
from edgeward.optimize.exporters.litert.graph import attribute
from edgeward.optimize.exporters.litert.pointwise import compute
from edgeward.optimize.exporters.litert.values import Value, plain


def batch_normalization(conversion: Conversion, node: onnx.NodeProto) -> None:
    """A scale and an offset for each channel."""
    scale, offset, mean, variance = (conversion.constant(name) for name in node.input[1:5])
    if scale is None or offset is None or mean is None or variance is None:
        raise Unsupported("LiteRT: a BatchNormalization with computed parameters")
    source = conversion.value(node.input[0])
    gain = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    shape = (1, -1, *[1] * (len(source.shape) - 2))
    factor, shift = (
        conversion.values.constant(array.astype(np.float32).reshape(shape)) for array in (gain, offset - mean * gain)
    )
    result = compute(conversion, "MUL", [source, factor], source.shape)
    conversion.tell(node.output[0], compute(conversion, "ADD", [result, shift], source.shape))


def layer_normalization(conversion: Conversion, node: onnx.NodeProto) -> None:
    """(x - mean) ÷ √(variance + epsilon) × scale + offset over the last axes."""
    if len(node.output) > 1 and any(node.output[1:]):
        raise Unsupported("LiteRT: a LayerNormalization whose mean is asked for too")
    source = conversion.values.floating(conversion.value(node.input[0]))
    rank = len(source.shape)
    first = attribute(node, "axis", -1) % rank
    result = _normalised(conversion, source, list(range(first, rank)), _epsilon(node))
    conversion.tell(node.output[0], _scaled(conversion, result, node, source.shape))


def rms_normalization(conversion: Conversion, node: onnx.NodeProto) -> None:
    """x ÷ √(mean of x² + epsilon) × scale over the last axes."""
    source = conversion.values.floating(conversion.value(node.input[0]))
    rank = len(source.shape)
    axes = list(range(attribute(node, "axis", -1) % rank, rank))
    squares = mean(conversion, compute(conversion, "SQUARE", [source], source.shape), axes)
    result = compute(conversion, "MUL", [source, _over_root(conversion, squares, _epsilon(node))], source.shape)
    conversion.tell(node.output[0], compute(conversion, "MUL", [result, conversion.value(node.input[1])], source.shape))


def instance_normalization(conversion: Conversion, node: onnx.NodeProto) -> None:
    """Each channel of each sample by its own mean and variance."""
    source = conversion.values.floating(conversion.value(node.input[0]))
    result = _normalised(conversion, source, list(range(2, len(source.shape))), _epsilon(node))
    conversion.tell(node.output[0], _by_channel(conversion, result, node))


def group_normalization(conversion: Conversion, node: onnx.NodeProto) -> None:
    """Groups of channels, each by its own mean and variance."""
    source = conversion.values.floating(conversion.value(node.input[0]))
    shape, groups = source.shape, attribute(node, "num_groups")
    last = (0, *range(2, len(shape)), 1)
    source = conversion.values.ordered(source, last)
    split = (shape[0], int(np.prod(shape[2:])), groups, shape[1] // groups)
    grouped = conversion.values.reshaped(source, split, plain(4))
    result = conversion.values.reshaped(_normalised(conversion, grouped, [1, 3], _epsilon(node)), shape, last)
    conversion.tell(node.output[0], _by_channel(conversion, result, node, groups))


def mean(conversion: Conversion, value: Value, axes: list[int]) -> Value:
    """The mean over axes, which stay with a length of 1."""
    reduced = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))
    options = schema.ReducerOptionsT()
    options.keepDims = True
    result = conversion.values.new(reduced, value.order, "float32")
    places = conversion.flat.constant(np.array(sorted(value.order.index(axis) for axis in axes), np.int32))
    conversion.flat.operator("MEAN", [conversion.values.index(value), places], [result.tensor], options)
    return result


def _epsilon(node: onnx.NodeProto) -> float:
    return float(attribute(node, "epsilon", 1e-5))


def _normalised(conversion: Conversion, source: Value, axes: list[int], epsilon: float) -> Value:
    """Less its mean, over its standard deviation."""
    centred = compute(conversion, "SUB", [source, mean(conversion, source, axes)], source.shape)
    variance = mean(conversion, compute(conversion, "SQUARE", [centred], source.shape), axes)
    return compute(conversion, "MUL", [centred, _over_root(conversion, variance, epsilon)], source.shape)


def _over_root(conversion: Conversion, variance: Value, epsilon: float) -> Value:
    """1 ÷ √(variance + epsilon)."""
    small = conversion.values.constant(np.array(epsilon, np.float32))
    return compute(conversion, "RSQRT", [compute(conversion, "ADD", [variance, small], variance.shape)], variance.shape)


def _scaled(conversion: Conversion, value: Value, node: onnx.NodeProto, shape: tuple[int, ...]) -> Value:
    result = compute(conversion, "MUL", [value, conversion.value(node.input[1])], shape)
    if len(node.input) > 2 and node.input[2]:
        result = compute(conversion, "ADD", [result, conversion.value(node.input[2])], shape)
    return result


def _by_channel(conversion: Conversion, value: Value, node: onnx.NodeProto, groups: int = 0) -> Value:
    """Times the scale of each channel, and its offset. Before opset 21 a group had one for all its channels."""
    channels = value.shape[1]
    for name, operator in ((node.input[1], "MUL"), (node.input[2], "ADD")):
        factors = conversion.constant(name)
        if factors is None:
            raise Unsupported(f"LiteRT: a {node.op_type} with computed parameters")
        if groups and factors.size == groups != channels:
            factors = np.repeat(factors, channels // groups)
        if _is_neutral(factors, operator):
            continue
        shaped: Any = np.asarray(factors, np.float32).reshape(1, -1, *[1] * (len(value.shape) - 2))
        value = compute(conversion, operator, [value, conversion.values.constant(shaped)], value.shape)
    return value


def _is_neutral(factors: Any, operator: str) -> bool:
    return bool(np.all(factors == (1 if operator == "MUL" else 0)))


HANDLERS: dict[str, Handler] = {
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
}
