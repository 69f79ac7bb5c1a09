"""Convolutions, and what all operators with weights share."""

from typing import Any, NamedTuple

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported
from edgeward.optimize.exporters.litert.conversion import Conversion, Ending, Handler
from edgeward.optimize.exporters.litert.flat import Quantisation
from edgeward.optimize.exporters.litert.graph import attribute
from edgeward.optimize.exporters.litert.values import CHANNELS_LAST, Value, dequantised

_DEPTHWISE_ORDER = (1, 2, 3, 0)
_SAME, _VALID = schema.Padding.SAME, schema.Padding.VALID


class Window(NamedTuple):
    """A convolution or pooling window over height and width; `pads` are top, left, bottom, right."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]


def window_of(node: onnx.NodeProto, kernel: tuple[int, ...], size: tuple[int, ...]) -> Window:
    """The window of a node over an input of `size` (one or two spatial axes; one is seen as a row)."""
    rank = len(kernel)
    if rank > 2:
        raise Unsupported(f"LiteRT: {node.op_type} over {rank} spatial axes")
    strides = list(attribute(node, "strides", [1] * rank))
    dilations = list(attribute(node, "dilations", [1] * rank))
    pads = _pads(node, kernel, size, strides, dilations)
    if rank == 1:
        pads = [0, pads[0], 0, pads[1]]
        kernel, strides, dilations = (1, *kernel), [1, *strides], [1, *dilations]
    return Window(
        (kernel[0], kernel[1]), (strides[0], strides[1]), (dilations[0], dilations[1]),
        (pads[0], pads[1], pads[2], pads[3]),
    )  # fmt: skip


def _pads(
    node: onnx.NodeProto, kernel: tuple[int, ...], size: tuple[int, ...], strides: list[int], dilations: list[int]
) -> list[int]:
    automatic = attribute(node, "auto_pad", "NOTSET")
    if automatic in ("NOTSET", ""):
        return list(attribute(node, "pads", [0] * (2 * len(kernel))))
    if automatic == "VALID":
        return [0] * (2 * len(kernel))
    totals = [_same_total(n, k, s, d) for n, k, s, d in zip(size, kernel, strides, dilations, strict=True)]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return [*small, *large] if automatic == "SAME_UPPER" else [*large, *small]


def _same_total(size: int, kernel: int, stride: int, dilation: int) -> int:
    """What "same" padding adds in all: outputs = ceil(size / stride)."""
    reach = (kernel - 1) * dilation + 1
    return max((-(-size // stride) - 1) * stride + reach - size, 0)


def padded(conversion: Conversion, value: Value, window: Window, filler: float = 0.0) -> tuple[Value, int]:
    """The value, with padding of its own where LiteRT's two kinds do not say it, and which kind is left."""
    if not any(window.pads):
        return value, _VALID
    size = value.stored[1:3]
    totals = [_same_total(*of) for of in zip(size, window.kernel, window.strides, window.dilations, strict=True)]
    same = (totals[0] // 2, totals[1] // 2, totals[0] - totals[0] // 2, totals[1] - totals[1] // 2)
    if window.pads == same:
        return value, _SAME
    top, left, bottom, right = window.pads
    return pad(conversion, value, [(0, 0), (top, bottom), (left, right), (0, 0)], filler), _VALID


def pad(conversion: Conversion, value: Value, stored_pads: list[tuple[int, int]], filler: float) -> Value:
    """PAD along the stored axes; int8 is filled with the value nearest to `filler`."""
    shape = list(value.shape)
    for place, (before, after) in enumerate(stored_pads):
        shape[value.order[place]] += before + after
    result = conversion.values.new(tuple(shape), value.order, value.dtype, value.quantisation)
    pads = conversion.flat.constant(np.array(stored_pads, np.int32))
    inputs = [conversion.values.index(value), pads]
    if filler == 0:
        conversion.flat.operator("PAD", inputs, [result.tensor], schema.PadOptionsT())
        return result
    if value.quantisation is None:
        constant = conversion.flat.constant(np.array(filler, np.float32))
    else:
        scale, zero = value.quantisation.scales[0], value.quantisation.zero_points[0]
        stored = np.array(np.clip(np.rint(filler / scale) + zero, -128, 127), np.int8)
        constant = conversion.flat.constant(stored, value.quantisation)
    conversion.flat.operator("PADV2", [*inputs, constant], [result.tensor], schema.PadV2OptionsT())
    return result


def channels_last(conversion: Conversion, value: Value) -> Value:
    """An image, or a sequence seen as an image of one row, with its channels stored last."""
    if len(value.shape) == 4:
        return conversion.values.ordered(value, CHANNELS_LAST)
    if len(value.shape) != 3:
        raise Unsupported(f"LiteRT: a convolution or pool over {len(value.shape) - 2} spatial axes")
    value = conversion.values.ordered(value, (0, 2, 1))
    batch, channels, length = value.shape
    return conversion.values.reshaped(value, (batch, channels, 1, length), CHANNELS_LAST)


def without_row(conversion: Conversion, value: Value, rank: int) -> Value:
    """The result of a window operator, as a sequence again where the input was one."""
    if rank == 4:
        return value
    batch, channels, _, length = value.shape
    return conversion.values.reshaped(value, (batch, channels, length), (0, 2, 1))


class Weights(NamedTuple):
    """Weights and bias of one operator, float or int8; several scales run along axis 0, the outputs."""

    weight: NDArray[Any]
    quantisation: Quantisation | None
    bias: NDArray[np.float32]


def weights_of(value: Value, bias: NDArray[Any] | None, outputs: int) -> Weights:
    offsets = np.zeros(outputs, np.float32) if bias is None else np.asarray(bias, np.float32).reshape(-1)
    return Weights(value.held, value.quantisation, np.broadcast_to(offsets, (outputs,)))


def can_be_int8(source: Value, weights: Weights, ending: Ending) -> bool:
    """Whether the operator runs in integers: input, weights and result all are int8."""
    return source.is_quantised and ending.quantisation is not None and _are_int8(weights)


def floats(weights: Weights) -> NDArray[np.float32]:
    if weights.quantisation is None:
        return weights.weight.astype(np.float32)
    return dequantised(weights.weight, weights.quantisation, weights.quantisation.axis)


def _are_int8(weights: Weights) -> bool:
    """Around zero, with one scale or one for each output."""
    return (
        weights.quantisation is not None
        and weights.weight.dtype == np.int8
        and not any(weights.quantisation.zero_points)
        and (weights.quantisation.is_per_tensor or weights.quantisation.axis == 0)
    )


def bias_int32(source: float, weights: Quantisation, bias: NDArray[Any]) -> tuple[NDArray[np.int32], Quantisation]:
    scales = source * np.asarray(weights.scales, np.float64)
    stored = np.clip(np.rint(bias / scales), -(2**31) + 1, 2**31 - 1).astype(np.int32)
    return stored, Quantisation(tuple(float(scale) for scale in scales), (0,) * len(scales), 0)


def emit(
    conversion: Conversion,
    name: str,
    source: Value,
    weights: Weights,
    ending: Ending,
    shape: tuple[int, ...],
    result_order: tuple[int, ...],
    weight_order: tuple[int, ...],
    options: Any,
) -> None:
    """Writes the operator in integers where all of it is int8, in float else."""
    values = conversion.values
    options.fusedActivationFunction = getattr(schema.ActivationFunctionType, ending.activation)
    if source.quantisation is not None and weights.quantisation is not None and can_be_int8(source, weights, ending):
        result = conversion.result(ending, shape, result_order)
        weight = values.index(values.constant(weights.weight, weight_order, weights.quantisation))
        stored, quantisation = bias_int32(source.quantisation.scales[0], weights.quantisation, weights.bias)
        bias = conversion.flat.constant(stored, quantisation)
        conversion.flat.operator(name, [source.tensor, weight, bias], [result.tensor], options)
        conversion.finish(ending, result)
        return
    result = values.new(shape, result_order, "float32")
    if name == "FULLY_CONNECTED" and source.quantisation is None and _are_int8(weights):
        # LiteRT's dynamic int8: it quantises the activations of each row while it runs.
        options.asymmetricQuantizeInputs = True
        weight = values.index(values.constant(weights.weight, weight_order, weights.quantisation))
    else:
        weight = values.index(values.constant(floats(weights), weight_order))
    bias = conversion.flat.constant(np.ascontiguousarray(weights.bias))
    source = values.floating(source)
    conversion.flat.operator(name, [values.index(source), weight, bias], [result.tensor], options)
    if ending.quantisation is not None:
        result = values.quantised(result, ending.quantisation)
    conversion.finish(ending, result)


def conv(conversion: Conversion, node: onnx.NodeProto) -> None:
    weight = conversion.value(node.input[1])
    bias = conversion.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if weight.constant is None or (len(node.input) > 2 and node.input[2] and bias is None):
        raise Unsupported("LiteRT: a Conv whose weights are computed while the model runs")
    rank = len(weight.shape)
    original = conversion.value(node.input[0])
    window = window_of(node, weight.shape[2:], original.shape[2:])
    source = channels_last(conversion, original)
    kernels = weight.constant.reshape(*weight.shape[:2], *window.kernel)
    found = weight._replace(constant=kernels, shape=kernels.shape)
    weights = weights_of(found, bias, weight.shape[0])
    ending = conversion.ending(node.output[0]) if rank == 4 else _bare(node)
    if not can_be_int8(source, weights, ending):
        source = conversion.values.floating(source)
    source, padding = padded(conversion, source, window)
    groups = attribute(node, "group", 1)
    is_depthwise = groups > 1 and groups == source.shape[1] and weight.shape[1] == 1
    options = schema.DepthwiseConv2DOptionsT() if is_depthwise else schema.Conv2DOptionsT()
    options.padding, (options.strideH, options.strideW) = padding, window.strides
    options.dilationHFactor, options.dilationWFactor = window.dilations
    shape = _four(conversion.shape(node.output[0]))
    if is_depthwise:
        options.depthMultiplier = weight.shape[0] // groups
        emit(conversion, "DEPTHWISE_CONV_2D", source, weights, ending, shape, CHANNELS_LAST, _DEPTHWISE_ORDER, options)
    else:
        emit(conversion, "CONV_2D", source, weights, ending, shape, CHANNELS_LAST, CHANNELS_LAST, options)
    if rank == 3:
        conversion.tell(node.output[0], without_row(conversion, conversion.value(node.output[0]), rank))


def _bare(node: onnx.NodeProto) -> Ending:
    return Ending(node.output[0], "NONE", None, ())


def _four(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 4 else (shape[0], shape[1], 1, shape[2])


HANDLERS: dict[str, Handler] = {
    "Conv": conv,
}
