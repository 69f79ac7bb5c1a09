"""Pools, padding and changes of size over height and width."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported
from edgeward.optimize.exporters.litert.arranging import integers, taken
from edgeward.optimize.exporters.litert.conversion import Conversion, Handler
from edgeward.optimize.exporters.litert.graph import attribute
from edgeward.optimize.exporters.litert.pointwise import compute
from edgeward.optimize.exporters.litert.values import CHANNELS_LAST, Value, plain
from edgeward.optimize.exporters.litert.weighted import Window, channels_last, pad, padded, window_of, without_row

_LOWEST = -3.4e38
_NEAREST: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda place: np.ceil(place - 0.5),
    "round_prefer_ceil": lambda place: np.floor(place + 0.5),
}
_INSIDE: tuple[Literal["reflect", "edge", "wrap"], ...] = ("reflect", "edge", "wrap")


def pad_(conversion: Conversion, node: onnx.NodeProto) -> None:
    """By a constant value, or by values from inside: reflect, edge, wrap."""
    pads, mode = integers(conversion, node, 1, "pads"), attribute(node, "mode", "constant")
    if pads is None:
        raise Unsupported("LiteRT: a Pad by amounts that are computed while the model runs")
    source = conversion.value(node.input[0])
    rank = len(source.shape)
    axes = [axis % rank for axis in integers(conversion, node, 3, "axes") or range(rank)]
    amounts = {axis: (pads[place], pads[place + len(axes)]) for place, axis in enumerate(axes)}
    if any(amount < 0 for pair in amounts.values() for amount in pair):
        raise Unsupported("LiteRT: a Pad by a negative amount")
    if mode in _INSIDE:
        for axis, pair in amounts.items():
            if any(pair):
                inside = np.pad(np.arange(source.shape[axis]), pair, mode=mode)
                source = taken(conversion, source, axis, inside)
        conversion.tell(node.output[0], source)
        return
    filler = attribute(node, "value", 0.0)
    if len(node.input) > 2 and node.input[2]:
        found = conversion.constant(node.input[2])
        filler = 0.0 if found is None else float(found.reshape(()))
    stored = [amounts.get(axis, (0, 0)) for axis in source.order]
    conversion.tell(node.output[0], pad(conversion, source, stored, filler))


def pool(conversion: Conversion, node: onnx.NodeProto) -> None:
    """MaxPool and AveragePool; int8 keeps its scale."""
    source = conversion.value(node.input[0])
    rank, is_max = len(source.shape), node.op_type == "MaxPool"
    window = window_of(node, tuple(attribute(node, "kernel_shape")), source.shape[2:])
    if any(step != 1 for step in window.dilations) or (len(node.output) > 1 and any(node.output[1:])):
        raise Unsupported(f"LiteRT: a {node.op_type} with dilations or indices")
    source = channels_last(conversion, source)
    shape = conversion.shape(node.output[0])
    shape = shape if rank == 4 else (shape[0], shape[1], 1, shape[2])
    size, wanted = source.shape[2:], shape[2:]
    stated, window = window, _rounded_up(window, size, wanted)
    if is_max:
        lowest = 0.0 if _is_never_negative(conversion, node.input[0], source) else _LOWEST
        source, padding = padded(conversion, source, window, lowest)
        result = _pooled(conversion, "MAX_POOL_2D", source, window, padding, shape)
    else:
        counts_pads = bool(attribute(node, "count_include_pad", 0))
        counts, inside = (_counts(stated, size, wanted, with_pads=flag) for flag in (counts_pads, False))
        result = _average(conversion, source, window, shape, counts, inside)
    conversion.tell(node.output[0], without_row(conversion, result, rank))


def _average(
    conversion: Conversion, source: Value, window: Window, shape: tuple[int, ...],
    counts: NDArray[Any], inside: NDArray[Any],
) -> Value:  # fmt: skip
    """LiteRT divides by what lies inside where it pads by itself, and by whole windows where an operator did."""
    if np.array_equal(counts, inside):
        source, padding = padded(conversion, source, window)
    else:
        top, left, bottom, right = window.pads
        source = pad(conversion, source, [(0, 0), (top, bottom), (left, right), (0, 0)], 0.0)
        padding = schema.Padding.VALID
    whole = window.kernel[0] * window.kernel[1]
    if padding == schema.Padding.SAME or np.all(counts == whole):
        return _pooled(conversion, "AVERAGE_POOL_2D", source, window, padding, shape)
    result = _pooled(conversion, "AVERAGE_POOL_2D", conversion.values.floating(source), window, padding, shape)
    factors = conversion.values.constant((whole / np.maximum(counts, 1)).astype(np.float32)[None, None])
    return compute(conversion, "MUL", [result, factors], shape)


def _pooled(
    conversion: Conversion, name: str, source: Value, window: Window, padding: int, shape: tuple[int, ...]
) -> Value:
    options = schema.Pool2DOptionsT()
    options.padding = padding
    (options.filterHeight, options.filterWidth), (options.strideH, options.strideW) = window.kernel, window.strides
    result = conversion.values.new(shape, CHANNELS_LAST, source.dtype, source.quantisation)
    conversion.flat.operator(name, [conversion.values.index(source)], [result.tensor], options)
    return result


def _rounded_up(window: Window, size: tuple[int, ...], wanted: tuple[int, ...]) -> Window:
    """With the rows and columns that ceil_mode adds at the end."""
    pads = list(window.pads)
    for axis in (0, 1):
        reach = (wanted[axis] - 1) * window.strides[axis] + window.kernel[axis]
        pads[axis + 2] += max(reach - size[axis] - pads[axis] - pads[axis + 2], 0)
    return window._replace(pads=(pads[0], pads[1], pads[2], pads[3]))


def _counts(window: Window, size: tuple[int, ...], wanted: tuple[int, ...], *, with_pads: bool) -> NDArray[Any]:
    """How many values lie under the window at each place."""
    counts = []
    for axis in (0, 1):
        before, after = window.pads[axis], window.pads[axis + 2]
        low, high = (-before, size[axis] + after) if with_pads else (0, size[axis])
        starts = np.arange(wanted[axis]) * window.strides[axis] - before
        counts.append(np.minimum(starts + window.kernel[axis], high) - np.maximum(starts, low))
    return np.asarray(counts[0][:, None] * counts[1][None, :])


def _is_never_negative(conversion: Conversion, name: str, value: Value) -> bool:
    """Whether zeros around it change no maximum: then padding runs where all else does."""
    if value.quantisation is not None:
        return value.quantisation.zero_points[0] == np.iinfo(np.int8).min
    maker = conversion.graph.makers.get(name)
    return maker is not None and (
        maker.op_type in ("Relu", "Sigmoid") or (maker.op_type == "Clip" and (conversion.bounds(maker)[0] or -1) >= 0)
    )


def resize(conversion: Conversion, node: onnx.NodeProto) -> None:
    source, shape = conversion.value(node.input[0]), conversion.shape(node.output[0])
    mode = attribute(node, "mode", "nearest")
    usual = "half_pixel" if node.op_type == "Resize" else "asymmetric"
    place = attribute(node, "coordinate_transformation_mode", usual)
    if attribute(node, "antialias", 0) or mode not in ("nearest", "linear"):
        raise Unsupported(f"LiteRT: a Resize that is {'antialiased' if attribute(node, 'antialias', 0) else mode}")
    if place not in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        raise Unsupported(f"LiteRT: a Resize by {place}")
    factors = _factors(conversion, node, source.shape, shape)
    if mode == "nearest":
        conversion.tell(node.output[0], _nearest(conversion, node, source, shape, factors, place))
        return
    rank = len(shape)
    if (
        rank not in (3, 4)
        or shape[:2] != source.shape[:2]
        or any(abs(factor * old - new) > 1e-4 for factor, old, new in zip(factors, source.shape, shape, strict=True))
    ):
        raise Unsupported("LiteRT: a linear Resize that is not of height and width, or not to whole sizes")
    source = channels_last(conversion, source)
    options = schema.ResizeBilinearOptionsT()
    options.alignCorners = place == "align_corners"
    options.halfPixelCenters = place in ("half_pixel", "pytorch_half_pixel")
    wanted = shape if rank == 4 else (*shape[:2], 1, shape[2])
    result = _resized(conversion, "RESIZE_BILINEAR", source, wanted, options)
    conversion.tell(node.output[0], without_row(conversion, result, rank))


def _resized(conversion: Conversion, name: str, source: Value, shape: tuple[int, ...], options: Any) -> Value:
    source = conversion.values.ordered(source, CHANNELS_LAST)
    result = conversion.values.new(shape, CHANNELS_LAST, source.dtype, source.quantisation)
    size = conversion.flat.constant(np.array(shape[2:], np.int32))
    conversion.flat.operator(name, [conversion.values.index(source), size], [result.tensor], options)
    return result


def _factors(
    conversion: Conversion, node: onnx.NodeProto, size: tuple[int, ...], wanted: tuple[int, ...]
) -> tuple[float, ...]:
    """How much each axis grows: as stated, else by the sizes."""
    stated = attribute(node, "scales")
    at = 1 if node.op_type == "Upsample" else 2
    if stated is None and len(node.input) > at and node.input[at]:
        stated = conversion.constant(node.input[at])
    if stated is None or len(stated) != len(size):
        return tuple(new / old for new, old in zip(wanted, size, strict=True))
    return tuple(float(factor) for factor in stated)


def _nearest(
    conversion: Conversion, node: onnx.NodeProto, source: Value, shape: tuple[int, ...],
    factors: tuple[float, ...], place: str,
) -> Value:  # fmt: skip
    """LiteRT's own operator by whole factors over height and width, else by the places of each axis."""
    rounding = attribute(node, "nearest_mode", "round_prefer_floor") if node.op_type == "Resize" else "floor"
    positions = {
        axis: _places(shape[axis], source.shape[axis], factors[axis], place, rounding)
        for axis in range(len(shape))
        if shape[axis] != source.shape[axis]
    }
    is_repeated = len(shape) == 4 and all(
        axis > 1 and np.array_equal(found, np.arange(shape[axis]) * source.shape[axis] // shape[axis])
        for axis, found in positions.items()
    )
    if is_repeated:
        return _resized(conversion, "RESIZE_NEAREST_NEIGHBOR", source, shape, schema.ResizeNearestNeighborOptionsT())
    for axis, found in positions.items():
        source = taken(conversion, source, axis, found)
    return source


def _places(count: int, size: int, factor: float, place: str, rounding: str) -> NDArray[np.int32]:
    """The place of the nearest value for each new one."""
    new = np.arange(count)
    found = {
        "asymmetric": new / factor,
        "align_corners": new * (size - 1) / max(count - 1, 1),
        "pytorch_half_pixel": (new + 0.5) / factor - 0.5 if count > 1 else new * 0.0,
        "half_pixel": (new + 0.5) / factor - 0.5,
    }[place]
    return np.asarray(np.clip(_NEAREST[rounding](found), 0, size - 1), np.int32)


def depth_to_space(conversion: Conversion, node: onnx.NodeProto) -> None:
    """Of both kinds; that of PyTorch's PixelShuffle, where channels come first, as a transposition."""
    source = conversion.values.ordered(conversion.value(node.input[0]), CHANNELS_LAST)
    shape, block = conversion.shape(node.output[0]), attribute(node, "blocksize")
    if attribute(node, "mode", "DCR") != "DCR":
        _, _, height, width = source.shape
        split = (shape[1], block, block)
        seen = conversion.values.reshaped(source, (shape[0], height, width, *split), plain(6))
        moved = conversion.values.ordered(seen, (0, 1, 4, 2, 5, 3))
        conversion.tell(node.output[0], conversion.values.reshaped(moved, shape, CHANNELS_LAST))
        return
    result = conversion.values.new(shape, CHANNELS_LAST, source.dtype, source.quantisation)
    options = schema.DepthToSpaceOptionsT()
    options.blockSize = block
    conversion.flat.operator("DEPTH_TO_SPACE", [conversion.values.index(source)], [result.tensor], options)
    conversion.tell(node.output[0], result)


def space_to_depth(conversion: Conversion, node: onnx.NodeProto) -> None:
    source = conversion.values.ordered(conversion.value(node.input[0]), CHANNELS_LAST)
    result = conversion.values.new(conversion.shape(node.output[0]), CHANNELS_LAST, source.dtype, source.quantisation)
    options = schema.SpaceToDepthOptionsT()
    options.blockSize = attribute(node, "blocksize")
    conversion.flat.operator("SPACE_TO_DEPTH", [conversion.values.index(source)], [result.tensor], options)
    conversion.tell(node.output[0], result)


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("MaxPool", "AveragePool"), pool),
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "DepthToSpace": depth_to_space,
    "Pad": pad_,
    "SpaceToDepth": space_to_depth,
}
