"""Comparisons and choices: where, which is largest, repeats, sums along the way."""

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema

from edgeward.kit.errors import Unsupported
from edgeward.optimize.exporters.litert.conversion import Conversion, Handler
from edgeward.optimize.exporters.litert.graph import attribute
from edgeward.optimize.exporters.litert.pointwise import aligned
from edgeward.optimize.exporters.litert.values import plain

_COMPARISONS = {
    "Equal": ("EQUAL", schema.EqualOptionsT),
    "Greater": ("GREATER", schema.GreaterOptionsT),
    "GreaterOrEqual": ("GREATER_EQUAL", schema.GreaterEqualOptionsT),
    "Less": ("LESS", schema.LessOptionsT),
    "LessOrEqual": ("LESS_EQUAL", schema.LessEqualOptionsT),
    "And": ("LOGICAL_AND", schema.LogicalAndOptionsT),
    "Or": ("LOGICAL_OR", schema.LogicalOrOptionsT),
}
_LARGEST = {"ArgMax": ("ARG_MAX", schema.ArgMaxOptionsT), "ArgMin": ("ARG_MIN", schema.ArgMinOptionsT)}


def compare(conversion: Conversion, node: onnx.NodeProto) -> None:
    name, options = _COMPARISONS[node.op_type]
    shape = conversion.shape(node.output[0])
    pair = [conversion.values.floating(conversion.value(name)) for name in node.input]
    pair, order = aligned(conversion, pair, shape)
    result = conversion.values.new(shape, order, "bool")
    conversion.flat.operator(name, [conversion.values.index(value) for value in pair], [result.tensor], options())
    conversion.tell(node.output[0], result)


def is_nan(conversion: Conversion, node: onnx.NodeProto) -> None:
    """A value that is not equal to itself."""
    source = conversion.values.floating(conversion.value(node.input[0]))
    result = conversion.values.new(source.shape, source.order, "bool")
    tensors = [conversion.values.index(source)] * 2
    conversion.flat.operator("NOT_EQUAL", tensors, [result.tensor], schema.NotEqualOptionsT())
    conversion.tell(node.output[0], result)


def not_(conversion: Conversion, node: onnx.NodeProto) -> None:
    source = conversion.value(node.input[0])
    result = conversion.values.new(source.shape, source.order, "bool")
    tensors = [conversion.values.index(source)]
    conversion.flat.operator("LOGICAL_NOT", tensors, [result.tensor], schema.LogicalNotOptionsT())
    conversion.tell(node.output[0], result)


def where(conversion: Conversion, node: onnx.NodeProto) -> None:
    """Values of the second where the first is true, else of the third."""
    shape = conversion.shape(node.output[0])
    parts = [conversion.values.floating(conversion.value(name)) for name in node.input]
    parts, order = aligned(conversion, parts, shape)
    result = conversion.values.new(shape, order, parts[1].dtype)
    tensors = [conversion.values.index(value) for value in parts]
    conversion.flat.operator("SELECT_V2", tensors, [result.tensor], schema.SelectV2OptionsT())
    conversion.tell(node.output[0], result)


def largest(conversion: Conversion, node: onnx.NodeProto) -> None:
    """The place of the largest or smallest value along an axis: the first of equals."""
    if attribute(node, "select_last_index", 0):
        raise Unsupported(f"LiteRT: an {node.op_type} that takes the last of equals")
    source = conversion.values.floating(conversion.value(node.input[0]))
    axis = attribute(node, "axis", 0) % len(source.shape)
    name, kind = _LARGEST[node.op_type]
    options = kind()
    options.outputType = schema.TensorType.INT64
    left = [place for place in source.order if place != axis]
    shape = tuple(size for place, size in enumerate(source.shape) if place != axis)
    order = tuple(sorted(left).index(place) for place in left)
    result = conversion.values.new(shape, order, "int64")
    place = conversion.flat.constant(np.array(source.order.index(axis), np.int32))
    conversion.flat.operator(name, [conversion.values.index(source), place], [result.tensor], options)
    if attribute(node, "keepdims", 1):
        result = conversion.values.ordered(result, plain(len(shape)))
        whole = conversion.shape(node.output[0])
        result = conversion.values.reshaped(result, whole, plain(len(whole)))
    conversion.tell(node.output[0], result)


def tile(conversion: Conversion, node: onnx.NodeProto) -> None:
    source, counts = conversion.value(node.input[0]), conversion.constant(node.input[1])
    if counts is None:
        raise Unsupported("LiteRT: a Tile whose counts are computed while the model runs")
    shape = conversion.shape(node.output[0])
    result = conversion.values.new(shape, source.order, source.dtype, source.quantisation)
    stored = conversion.flat.constant(np.array([counts[axis] for axis in source.order], np.int32))
    tensors = [conversion.values.index(source), stored]
    conversion.flat.operator("TILE", tensors, [result.tensor], schema.TileOptionsT())
    conversion.tell(node.output[0], result)


def running_sum(conversion: Conversion, node: onnx.NodeProto) -> None:
    source = conversion.values.floating(conversion.value(node.input[0]))
    axis = conversion.constant(node.input[1])
    if axis is None:
        raise Unsupported("LiteRT: a CumSum whose axis is computed while the model runs")
    options = schema.CumsumOptionsT()
    options.exclusive, options.reverse = bool(attribute(node, "exclusive", 0)), bool(attribute(node, "reverse", 0))
    place = source.order.index(int(axis.reshape(())) % len(source.shape))
    result = conversion.values.new(source.shape, source.order, source.dtype)
    tensors = [conversion.values.index(source), conversion.flat.constant(np.array(place, np.int32))]
    conversion.flat.operator("CUMSUM", tensors, [result.tensor], options)
    conversion.tell(node.output[0], result)


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(_COMPARISONS, compare),
    **dict.fromkeys(_LARGEST, largest),
    "IsNaN": is_nan,
    "CumSum": running_sum,
    "Not": not_,
    "Tile": tile,
    "Where": where,
}
