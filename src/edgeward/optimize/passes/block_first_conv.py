"""Reads a first convolution over few channels in blocks of neighbouring pixels: the same sums, in longer runs.

A convolution over 1 to 4 channels spends its time on gathering runs of 1 to 4 bytes, not on products. Seen as
blocks of `block` pixels, an image of W pixels × C channels is one of W/block pixels × block·C channels, without a
byte moved; the convolution over it has the weights of the old one, shifted for each pixel of a block, and zeros.
It multiplies more and gathers less. Exact: every sum has the old terms, and zeros.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeward.optimize.passes.base import RAW_FLOAT, Context, DoesNotApply, Pass, Passed
from edgeward.records.candidate import Step

_LAST_CHANNELS = 4
_WANTED_RUN = 16


class Shape(NamedTuple):
    """The raw image, how many pixels make a block, and how many outputs a block gives."""

    height: int
    width: int
    channels: int
    block: int
    outputs: int


class BlockFirstConv:
    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:  # noqa: ARG002 - no options
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        transpose, conv = _head(copy.graph)
        shape = _shape_of(copy.graph, conv)
        weight = numpy_helper.to_array(_constant(copy.graph, conv.input[1]))
        blocked, first, last = block_weights(weight, shape, _ints(conv, "pads", [0] * 4)[1])
        _rewrite_input(copy.graph, transpose, shape)
        _rewrite_conv(copy.graph, conv, blocked, (-first, last), shape)
        _unblock(copy.graph, conv, shape, weight.shape[0])
        del copy.graph.value_info[:]
        return Passed(copy, context.preprocess, (f"the first Conv reads {shape.block} pixels at a time",))


def block_weights(weight: NDArray[Any], shape: Shape, pad_left: int) -> tuple[NDArray[np.float32], int, int]:
    """The weights over blocks, and the first and last block they reach, relative to the block of the output."""
    out_channels, channels, kernel_height, kernel_width = weight.shape
    stride = shape.block // shape.outputs
    columns = [(p, k, p * stride - pad_left + k) for p in range(shape.outputs) for k in range(kernel_width)]
    first, last = (bound(x // shape.block for _, _, x in columns) for bound in (min, max))
    blocked = np.zeros(
        (shape.outputs * out_channels, shape.block * channels, kernel_height, last - first + 1), np.float32
    )
    for p, k, x in columns:
        rows = slice(p * out_channels, (p + 1) * out_channels)
        offset = (x % shape.block) * channels
        blocked[rows, offset : offset + channels, :, x // shape.block - first] = weight[:, :, :, k]
    return blocked, first, last


def _head(graph: onnx.GraphProto) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """Transpose and Conv of: raw uint8, channels last → Transpose → Cast → Conv. Else DoesNotApply."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    cast = next((node for node in graph.node if RAW_FLOAT in node.output), None)
    before = [node for node in graph.node if cast is not None and node.output[0] == cast.input[0]]
    after = users.get(RAW_FLOAT, [])
    if cast is None or len(before) != 1 or len(after) != 1:
        raise DoesNotApply("the graph does not begin with one Conv over raw bytes")
    transpose, conv = before[0], after[0]
    constants = {tensor.name for tensor in graph.initializer}
    fits = (
        transpose.op_type == "Transpose" and _ints(transpose, "perm", []) == [0, 3, 1, 2]
        and transpose.input[0] == graph.input[0].name and len(users[transpose.input[0]]) == 1
        and conv.op_type == "Conv" and conv.input[0] == RAW_FLOAT and all(name in constants for name in conv.input[1:])
        and _ints(conv, "dilations", [1, 1]) == [1, 1] and _int(conv, "group", 1) == 1
        and not any(a.name == "auto_pad" and a.s not in (b"NOTSET", b"") for a in conv.attribute)
    )  # fmt: skip
    if not fits:
        raise DoesNotApply("the graph does not begin with one plain Conv over raw bytes, channels last")
    return transpose, conv


def _shape_of(graph: onnx.GraphProto, conv: onnx.NodeProto) -> Shape:
    height, width, channels = (dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim[1:])
    stride = _ints(conv, "strides", [1, 1])[1]
    kernel_width = numpy_helper.to_array(_constant(graph, conv.input[1])).shape[3]
    pads = _ints(conv, "pads", [0] * 4)
    keeps_width = width and (width + pads[1] + pads[3] - kernel_width) // stride + 1 == width // stride
    blocks = [b for b in (16, 8, 4, 2) if width and width % b == 0 and b % stride == 0 and b * channels <= _WANTED_RUN]
    if not height or not 0 < channels <= _LAST_CHANNELS or not keeps_width or not blocks or blocks[0] == stride:
        raise DoesNotApply("the first Conv is not one that reading in blocks could speed up")
    return Shape(height, width, channels, blocks[0], blocks[0] // stride)


def _rewrite_input(graph: onnx.GraphProto, transpose: onnx.NodeProto, shape: Shape) -> None:
    dims = [0, shape.height, shape.width // shape.block, shape.block * shape.channels]
    _add_constant(graph, "edgeward_blocks", np.array(dims, np.int64))
    graph.node.insert(0, helper.make_node("Reshape", [transpose.input[0], "edgeward_blocks"], ["edgeward_blocked"]))
    transpose.input[0] = "edgeward_blocked"


def _rewrite_conv(
    graph: onnx.GraphProto, conv: onnx.NodeProto, weight: NDArray[Any], sides: tuple[int, int], shape: Shape
) -> None:
    top, _, bottom, _ = _ints(conv, "pads", [0] * 4)
    stride = _ints(conv, "strides", [1, 1])[0]
    _add_constant(graph, "edgeward_blocked_weight", weight)
    if len(conv.input) > 2:
        bias = numpy_helper.to_array(_constant(graph, conv.input[2]))
        _add_constant(graph, "edgeward_blocked_bias", np.tile(bias, shape.outputs))
        conv.input[2] = "edgeward_blocked_bias"
    conv.input[1] = "edgeward_blocked_weight"
    del conv.attribute[:]
    conv.attribute.extend(
        helper.make_attribute(name, value)
        for name, value in (
            ("kernel_shape", list(weight.shape[2:])), ("strides", [stride, 1]),
            ("pads", [top, sides[0], bottom, sides[1]]),
        )
    )  # fmt: skip


def _unblock(graph: onnx.GraphProto, conv: onnx.NodeProto, shape: Shape, out_channels: int) -> None:
    """Brings the outputs back into single pixels, behind an activation, so that Conv and activation still fuse."""
    end = conv
    users = [node for node in graph.node if conv.output[0] in node.input]
    if len(users) == 1 and users[0].op_type in ("Relu", "Clip", "LeakyRelu"):
        end = users[0]
    carried = end.output[0]
    end.output[0] = "edgeward_block_out"
    _add_constant(graph, "edgeward_pixels", np.array([0, -1, shape.width * shape.outputs // shape.block, out_channels]))
    place = list(graph.node).index(end) + 1
    for index, node in enumerate(
        (
            helper.make_node("Transpose", ["edgeward_block_out"], ["edgeward_block_last"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", ["edgeward_block_last", "edgeward_pixels"], ["edgeward_pixel_last"]),
            helper.make_node("Transpose", ["edgeward_pixel_last"], [carried], perm=[0, 3, 1, 2]),
        )
    ):
        graph.node.insert(place + index, node)


def _add_constant(graph: onnx.GraphProto, name: str, values: NDArray[Any]) -> None:
    graph.initializer.append(numpy_helper.from_array(values, name))


def _constant(graph: onnx.GraphProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in graph.initializer if tensor.name == name)


def _ints(node: onnx.NodeProto, name: str, default: list[int]) -> list[int]:
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == name), default)


def _int(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)


plugin: Pass = BlockFirstConv()
