"""The rules for layers with weights, and for pooling."""

from typing import NamedTuple

import numpy as np

from edgeward.kit.errors import Unsupported
from edgeward.optimize.from_litert.builder import NCHW, Builder
from edgeward.optimize.from_litert.elementwise import activated
from edgeward.optimize.from_litert.file import Operator

_SAME = 0


class _Window(NamedTuple):
    """How a kernel walks over an image, height before width. `pads` is in ONNX's order: begins, then ends."""

    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]


def conv_2d(builder: Builder, operator: Operator) -> None:
    """Weights are stored as output × height × width × input channels."""
    filters = operator.inputs[1]
    out_channels, height, width, in_channels = builder.shape(filters)
    groups = builder.shape(operator.inputs[0])[3] // in_channels
    weights = _weights(builder, operator, order=(0, 3, 1, 2), axis=0)
    _convolve(builder, operator, weights, (height, width), groups, out_channels)


def depthwise_conv_2d(builder: Builder, operator: Operator) -> None:
    """Weights are stored as 1 × height × width × (input channels · multiplier)."""
    _, height, width, out_channels = builder.shape(operator.inputs[1])
    groups = builder.shape(operator.inputs[0])[3]
    weights = _weights(builder, operator, order=(3, 0, 1, 2), axis=0)
    _convolve(builder, operator, weights, (height, width), groups, out_channels)


def _convolve(
    builder: Builder, operator: Operator, weights: str, kernel: tuple[int, int], groups: int, out_channels: int
) -> None:
    rows = builder.keeps_rows(operator)
    window = _window(builder, operator, kernel)
    inputs = [builder.real(operator.inputs[0], NCHW), weights, *_bias(builder, operator, 2, out_channels)]
    made = builder.node(
        "Conv", inputs, kernel_shape=kernel, group=groups,
        strides=window.strides, dilations=window.dilations, pads=window.pads,
    )  # fmt: skip
    builder.put(operator.outputs[0], activated(builder, operator, made), NCHW, rows=rows)


def transpose_conv(builder: Builder, operator: Operator) -> None:
    """Inputs: the output's shape, weights (output × height × width × input channels), the image, perhaps a bias."""
    image, result = operator.inputs[2], operator.outputs[0]
    if builder.carries(operator) and operator.inputs[0] in builder.rows:
        raise Unsupported("TRANSPOSE_CONV with a computed output shape is not supported")
    rows = builder.keeps_rows(operator)
    out_channels, *kernel, _ = builder.shape(operator.inputs[1])
    strides = (operator.option("strideH", 1), operator.option("strideW", 1))
    begins, ends, extra = [], [], []
    for axis in (0, 1):
        whole = (builder.shape(image)[axis + 1] - 1) * strides[axis] + kernel[axis]
        surplus = whole - builder.shape(result)[axis + 1]
        begin = max(surplus, 0) // 2 if operator.option("padding", _SAME) == _SAME else 0
        begins.append(begin)
        ends.append(max(surplus, 0) - begin)
        extra.append(max(-surplus, 0))
    weights = _weights(builder, operator, order=(3, 0, 1, 2), axis=1)
    made = builder.node(
        "ConvTranspose", [builder.real(image, NCHW), weights, *_bias(builder, operator, 3, out_channels)],
        kernel_shape=kernel, strides=strides, pads=[*begins, *ends], output_padding=extra,
    )  # fmt: skip
    builder.put(result, activated(builder, operator, made), NCHW, rows=rows)


def fully_connected(builder: Builder, operator: Operator) -> None:
    """Weights are stored as outputs × inputs. What comes in is flattened to rows of that many inputs."""
    source, filters, result = operator.inputs[0], operator.inputs[1], operator.outputs[0]
    if operator.option("weightsFormat", 0):
        raise Unsupported("FULLY_CONNECTED with shuffled weights is not supported")
    rows = builder.keeps_rows(operator)
    out_count, in_count = builder.shape(filters)
    name = builder.real(source)
    is_flat = len(builder.shape(source)) == 2 and builder.shape(source)[1] == in_count
    if not is_flat:
        name = builder.node("Reshape", [name, builder.vector(-1, in_count)])
    weights = _weights(builder, operator, order=(0, 1), axis=0)
    made = builder.node("Gemm", [name, weights, *_bias(builder, operator, 2, out_count)], transB=1)
    made = activated(builder, operator, made)
    if len(builder.shape(result)) != 2:
        made = builder.node("Reshape", [made, builder.target(result, rows=rows)])
    builder.put(result, made, rows=rows)


def _weights(builder: Builder, operator: Operator, *, order: tuple[int, ...], axis: int) -> str:
    """The layer's second input with its axes in ONNX's order; `axis` is where its output channels then stand."""
    index = operator.inputs[1]
    tensor = builder.tensor(index)
    if not builder.is_constant(index):
        return builder.node("Transpose", [builder.real(index)], perm=order)
    is_integer_layer = builder.tensor(operator.outputs[0]).is_quantized
    if not tensor.is_quantized or not is_integer_layer:
        if tensor.dtype != "float32":
            builder.notes.add(f"{tensor.dtype} weights became float32: the layers around them compute in float")
        return builder.weight(builder.real_constant(index).transpose(order), "weights")
    stored = builder.weight(builder.constant(index).transpose(order), "weights")
    scale, point, along = builder.scale_of(tensor.scales, tensor.dtype)
    return builder.node("DequantizeLinear", [stored, scale, point], **({"axis": axis} if along >= 0 else {}))


def _bias(builder: Builder, operator: Operator, place: int, count: int) -> list[str]:
    """The layer's bias where it has one; an integer one keeps its scale, so that integer kernels can take it."""
    if len(operator.inputs) <= place or operator.inputs[place] < 0:
        return []
    index = operator.inputs[place]
    tensor = builder.tensor(index)
    if not builder.is_constant(index):
        return [builder.real(index)]
    value = builder.constant(index).reshape(-1)
    if tensor.quantization is None or value.dtype != np.int32:
        return [builder.weight(builder.real_constant(index).reshape(count), "bias")]
    one = len(tensor.quantization.scale) == 1
    scale = builder.weight(tensor.quantization.scale[0] if one else tensor.quantization.scale, "bias_scale")
    return [builder.node("DequantizeLinear", [builder.weight(value, "bias"), scale], **({} if one else {"axis": 0}))]


def average_pool_2d(builder: Builder, operator: Operator) -> None:
    """The border does not count: an average is over the pixels that are there."""
    _pool(builder, operator, "AveragePool", "GlobalAveragePool")


def max_pool_2d(builder: Builder, operator: Operator) -> None:
    _pool(builder, operator, "MaxPool", "GlobalMaxPool")


def _pool(builder: Builder, operator: Operator, kind: str, whole: str) -> None:
    rows = builder.keeps_rows(operator)
    kernel = (operator.option("filterHeight", 1), operator.option("filterWidth", 1))
    name = builder.real(operator.inputs[0], NCHW)
    window = _window(builder, operator, kernel)
    if kernel == builder.shape(operator.inputs[0])[1:3] and not any(window.pads):
        made = builder.node(whole, [name])
    else:
        made = builder.node(kind, [name], kernel_shape=kernel, strides=window.strides, pads=window.pads)
    builder.put(operator.outputs[0], activated(builder, operator, made), NCHW, rows=rows)


def _window(builder: Builder, operator: Operator, kernel: tuple[int, int]) -> _Window:
    strides = (operator.option("strideH", 1), operator.option("strideW", 1))
    dilations = (operator.option("dilationHFactor", 1), operator.option("dilationWFactor", 1))
    size = builder.shape(operator.inputs[0])[1:3]
    if operator.option("padding", _SAME) != _SAME:
        return _Window(strides, dilations, (0, 0, 0, 0))
    begins, ends = [], []
    for axis in (0, 1):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        steps = -(-size[axis] // strides[axis])
        total = max((steps - 1) * strides[axis] + reach - size[axis], 0)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return _Window(strides, dilations, (begins[0], begins[1], ends[0], ends[1]))


RULES = {
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "TRANSPOSE_CONV": transpose_conv,
    "FULLY_CONNECTED": fully_connected,
    "AVERAGE_POOL_2D": average_pool_2d,
    "MAX_POOL_2D": max_pool_2d,
}
