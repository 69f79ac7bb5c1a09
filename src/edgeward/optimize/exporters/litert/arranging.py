"""Operators that move, cut, join or reduce values."""

from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported
from edgeward.optimize.exporters.litert.conversion import Conversion, Handler
from edgeward.optimize.exporters.litert.graph import attribute
from edgeward.optimize.exporters.litert.pointwise import compute
from edgeward.optimize.exporters.litert.values import Value, plain

_REDUCTIONS = {
    "ReduceMean": "MEAN", "ReduceSum": "SUM", "ReduceMax": "REDUCE_MAX", "ReduceMin": "REDUCE_MIN",
    "ReduceProd": "REDUCE_PROD", "ReduceL1": "SUM", "ReduceL2": "SUM", "ReduceSumSquare": "SUM",
}  # fmt: skip

_BEFORE = {"ReduceL1": "ABS", "ReduceL2": "SQUARE", "ReduceSumSquare": "SQUARE"}
"""What is done to each value before they are summed."""


def transpose(conversion: Conversion, node: onnx.NodeProto) -> None:
    """No operator: only the names of the axes change."""
    source = conversion.value(node.input[0])
    moves = list(attribute(node, "perm", range(len(source.shape))[::-1]))
    if source.constant is not None:
        conversion.tell(node.output[0], conversion.values.constant(np.transpose(source.constant, moves)))
        return
    shape = tuple(source.shape[axis] for axis in moves)
    order = tuple(moves.index(axis) for axis in source.order)
    conversion.tell(node.output[0], source._replace(shape=shape, order=order))


def reshape(conversion: Conversion, node: onnx.NodeProto) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: the same elements in ONNX's order under another shape."""
    source, shape = conversion.value(node.input[0]), conversion.shape(node.output[0])
    if source.constant is not None:
        value = conversion.values.floating(source).held
        conversion.tell(node.output[0], conversion.values.constant(value.reshape(shape)))
        return
    conversion.tell(node.output[0], in_shape(conversion, source, shape))


def in_shape(conversion: Conversion, source: Value, shape: tuple[int, ...]) -> Value:
    moved = [axis for axis in source.order if source.shape[axis] != 1]
    if moved != sorted(moved):
        source = conversion.values.ordered(source, plain(len(source.shape)))
    return conversion.values.reshaped(source, shape, plain(len(shape)))


def concat(conversion: Conversion, node: onnx.NodeProto) -> None:
    """In int8 where the result is: every part takes the scale of the whole."""
    values, shape = conversion.values, conversion.shape(node.output[0])
    ending = conversion.ending(node.output[0], fuse=False)
    parts = [conversion.value(name) for name in node.input]
    whole = ending.quantisation
    if whole is not None and all(part.is_quantised for part in parts):
        parts = [values.quantised(part, whole) for part in parts]
    else:
        parts, whole = [values.floating(part) for part in parts], None
    order = next((part.order for part in parts if part.constant is None), plain(len(shape)))
    parts = [values.ordered(part, order) for part in parts]
    result = values.new(shape, order, parts[0].dtype, whole)
    options = schema.ConcatenationOptionsT()
    options.axis = order.index(attribute(node, "axis") % len(shape))
    conversion.flat.operator("CONCATENATION", [values.index(part) for part in parts], [result.tensor], options)
    if ending.quantisation is not None:
        result = values.quantised(result, ending.quantisation)
    conversion.finish(ending, result)


def split(conversion: Conversion, node: onnx.NodeProto) -> None:
    source = conversion.value(node.input[0])
    axis = attribute(node, "axis", 0) % len(source.shape)
    begin = [0] * len(source.shape)
    for name in node.output:
        shape = conversion.shape(name)
        conversion.tell(name, _sliced(conversion, source, list(begin), shape))
        begin[axis] += shape[axis]


def _sliced(conversion: Conversion, source: Value, begin: list[int], shape: tuple[int, ...]) -> Value:
    result = conversion.values.new(shape, source.order, source.dtype, source.quantisation)
    start = conversion.flat.constant(np.array([begin[axis] for axis in source.order], np.int32))
    size = conversion.flat.constant(np.array(result.stored, np.int32))
    tensors = [conversion.values.index(source), start, size]
    conversion.flat.operator("SLICE", tensors, [result.tensor], schema.SliceOptionsT())
    return result


def slice_(conversion: Conversion, node: onnx.NodeProto) -> None:
    source, shape = conversion.value(node.input[0]), conversion.shape(node.output[0])
    given = [integers(conversion, node, place, name) for place, name in enumerate(("", "starts", "ends"))][1:]
    starts, ends = given
    if starts is None or ends is None:
        raise Unsupported("LiteRT: a Slice whose bounds are computed while the model runs")
    axes = integers(conversion, node, 3, "axes") or list(range(len(starts)))
    steps = integers(conversion, node, 4, "steps") or [1] * len(starts)
    begin, stride = [0] * len(source.shape), [1] * len(source.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = source.shape[axis]
        if step < 0:
            source = _backwards(conversion, source, axis, range(size)[slice(start, end, step)])
            continue
        begin[axis], stride[axis] = max(0, min(start + size if start < 0 else start, size)), step
    if source.constant is not None:
        cut = tuple(slice(b, b + n * s, s) for b, n, s in zip(begin, shape, stride, strict=True))
        conversion.tell(node.output[0], conversion.values.constant(np.ascontiguousarray(source.constant[cut])))
        return
    if source.shape == shape:
        conversion.tell(node.output[0], source)
        return
    if all(step == 1 for step in stride):
        conversion.tell(node.output[0], _sliced(conversion, source, begin, shape))
        return
    conversion.tell(node.output[0], _strided(conversion, source, begin, stride, shape))


def _backwards(conversion: Conversion, source: Value, axis: int, positions: range) -> Value:
    if source.constant is not None:
        return conversion.values.constant(np.take(source.constant, positions, axis=axis))
    return taken(conversion, source, axis % len(source.shape), np.array(positions))


def _strided(
    conversion: Conversion, source: Value, begin: list[int], stride: list[int], shape: tuple[int, ...]
) -> Value:
    result = conversion.values.new(shape, source.order, source.dtype, source.quantisation)
    end = [first + (count - 1) * step + 1 for first, count, step in zip(begin, shape, stride, strict=True)]
    bounds = [
        conversion.flat.constant(np.array([numbers[axis] for axis in source.order], np.int32))
        for numbers in (begin, end, stride)
    ]
    tensors = [conversion.values.index(source), *bounds]
    conversion.flat.operator("STRIDED_SLICE", tensors, [result.tensor], schema.StridedSliceOptionsT())
    return result


def integers(conversion: Conversion, node: onnx.NodeProto, place: int, name: str) -> list[int] | None:
    """A list of numbers that is an input in new opsets and an attribute in old ones."""
    if attribute(node, name) is not None:
        return [int(number) for number in attribute(node, name)]
    if len(node.input) <= place or not node.input[place]:
        return None
    found = conversion.value(node.input[place]).constant
    return None if found is None else [int(number) for number in np.ravel(found)]


def gather(conversion: Conversion, node: onnx.NodeProto) -> None:
    source, index = conversion.value(node.input[0]), conversion.value(node.input[1])
    if source.constant is not None and index.constant is not None:
        found = np.take(source.constant, index.constant, axis=attribute(node, "axis", 0))
        conversion.tell(node.output[0], conversion.values.constant(np.asarray(found)))
        return
    axis, shape = attribute(node, "axis", 0) % len(source.shape), conversion.shape(node.output[0])
    if index.constant is not None and index.constant.ndim < 2 and (run := _run(index.constant, source.shape[axis])):
        conversion.tell(node.output[0], _cut_out(conversion, source, axis, run, keep=index.constant.ndim == 1))
        return
    source = conversion.values.ordered(source, plain(len(source.shape)))
    if index.constant is not None:
        positions = np.where(index.constant < 0, index.constant + source.shape[axis], index.constant)
        index = conversion.values.constant(positions.astype(np.int32))
    options = schema.GatherOptionsT()
    options.axis = axis
    result = conversion.values.new(shape, plain(len(shape)), source.dtype, source.quantisation)
    tensors = [conversion.values.index(source), conversion.values.index(index)]
    conversion.flat.operator("GATHER", tensors, [result.tensor], options)
    conversion.tell(node.output[0], result)


def global_pool(conversion: Conversion, node: onnx.NodeProto) -> None:
    source = conversion.value(node.input[0])
    axes = list(range(2, len(source.shape)))
    name = "MEAN" if node.op_type == "GlobalAveragePool" else "REDUCE_MAX"
    _reduced(conversion, node.output[0], name, source, axes, keep=True)


def reduce(conversion: Conversion, node: onnx.NodeProto) -> None:
    source = conversion.value(node.input[0])
    axes = integers(conversion, node, 1, "axes")
    if axes is None and attribute(node, "noop_with_empty_axes", 0):
        conversion.tell(node.output[0], source)
        return
    places = [axis % len(source.shape) for axis in (axes if axes is not None else range(len(source.shape)))]
    keep = bool(attribute(node, "keepdims", 1))
    if node.op_type in _BEFORE:
        source = conversion.values.floating(source)
        source = compute(conversion, _BEFORE[node.op_type], [source], source.shape)
    if node.op_type != "ReduceL2":
        _reduced(conversion, node.output[0], _REDUCTIONS[node.op_type], source, places, keep=keep)
        return
    squares = f"{node.output[0]}/squares"
    _reduced(conversion, squares, "SUM", source, places, keep=keep)
    total = conversion.value(squares)
    conversion.tell(node.output[0], compute(conversion, "SQRT", [total], total.shape))


def _reduced(conversion: Conversion, output: str, name: str, source: Value, axes: list[int], *, keep: bool) -> None:
    """A mean in int8 where its result is; everything else in float."""
    ending = conversion.ending(output, fuse=False)
    is_int8 = name == "MEAN" and source.is_quantised and ending.quantisation is not None
    if not is_int8:
        source = conversion.values.floating(source)
    left = [axis for axis in source.order if keep or axis not in axes]
    kept = [axis for axis in range(len(source.shape)) if keep or axis not in axes]
    order = tuple(kept.index(axis) for axis in left)
    shape = tuple(1 if axis in axes else source.shape[axis] for axis in kept)
    result = conversion.values.new(shape, order, source.dtype, ending.quantisation if is_int8 else None)
    options = schema.ReducerOptionsT()
    options.keepDims = keep
    places = conversion.flat.constant(np.array(sorted(source.order.index(axis) for axis in axes), np.int32))
    conversion.flat.operator(name, [conversion.values.index(source), places], [result.tensor], options)
    if ending.quantisation is not None:
        result = conversion.values.quantised(result, ending.quantisation)
    conversion.finish(ending, result)


def softmax(conversion: Conversion, node: onnx.NodeProto) -> None:
    """In float, over the axis that is stored last."""
    source = conversion.values.floating(conversion.value(node.input[0]))
    rank = len(source.shape)
    axis = attribute(node, "axis", -1) % rank
    if source.order[-1] != axis:
        source = conversion.values.ordered(source, (*(place for place in plain(rank) if place != axis), axis))
    result = conversion.values.new(source.shape, source.order, "float32")
    name, options = "LOG_SOFTMAX", schema.LogSoftmaxOptionsT()
    if node.op_type == "Softmax":
        name, options = "SOFTMAX", schema.SoftmaxOptionsT()
        options.beta = 1.0
    conversion.flat.operator(name, [conversion.values.index(source)], [result.tensor], options)
    conversion.tell(node.output[0], result)


def expand(conversion: Conversion, node: onnx.NodeProto) -> None:
    """By adding zeros of the wanted shape: XNNPACK broadcasts additions of floats."""
    source, shape = conversion.values.floating(conversion.value(node.input[0])), conversion.shape(node.output[0])
    if source.shape == shape:
        conversion.tell(node.output[0], source)
        return
    if source.dtype != "float32":
        conversion.tell(node.output[0], _broadcast(conversion, source, shape))
        return
    zeros = conversion.values.constant(np.zeros(shape, np.float32))
    conversion.tell(node.output[0], compute(conversion, "ADD", [source, zeros], shape))


def _broadcast(conversion: Conversion, source: Value, shape: tuple[int, ...]) -> Value:
    if source.constant is not None:
        return conversion.values.constant(np.ascontiguousarray(np.broadcast_to(source.constant, shape)))
    source = conversion.values.ordered(source, plain(len(source.shape)))
    result = conversion.values.new(shape, plain(len(shape)), source.dtype)
    wanted = conversion.flat.constant(np.array(shape, np.int32))
    tensors = [conversion.values.index(source), wanted]
    conversion.flat.operator("BROADCAST_TO", tensors, [result.tensor], schema.BroadcastToOptionsT())
    return result


def taken(conversion: Conversion, source: Value, axis: int, positions: NDArray[Any]) -> Value:
    """The slices at these positions of an axis, in that order; int8 stays int8."""
    shape = tuple(len(positions) if place == axis else size for place, size in enumerate(source.shape))
    result = conversion.values.new(shape, source.order, source.dtype, source.quantisation)
    options = schema.GatherOptionsT()
    options.axis = source.order.index(axis)
    tensors = [conversion.values.index(source), conversion.flat.constant(np.asarray(positions, np.int32))]
    conversion.flat.operator("GATHER", tensors, [result.tensor], options)
    return result


def _run(index: NDArray[Any], size: int) -> range | None:
    """The positions where each is one behind the one before."""
    positions = np.where(index < 0, index + size, index).reshape(-1)
    first, count = (int(positions[0]), len(positions)) if len(positions) else (0, 0)
    return range(first, first + count) if count and np.array_equal(positions, np.arange(first, first + count)) else None


def _cut_out(conversion: Conversion, source: Value, axis: int, run: range, *, keep: bool) -> Value:
    """A run of positions as a slice, which XNNPACK does and a gathering not; one without its axis where not `keep`."""
    begin = [run.start if place == axis else 0 for place in range(len(source.shape))]
    part = _sliced(conversion, source, begin, (*source.shape[:axis], len(run), *source.shape[axis + 1 :]))
    if keep:
        return part
    shape = (*source.shape[:axis], *source.shape[axis + 1 :])
    order = tuple(place - (place > axis) for place in source.order if place != axis)
    return conversion.values.reshaped(part, shape, order)


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(_REDUCTIONS, reduce),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), global_pool),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    "Concat": concat,
    "Expand": expand,
    "Gather": gather,
    "Slice": slice_,
    "Split": split,
    "Transpose": transpose,
}
