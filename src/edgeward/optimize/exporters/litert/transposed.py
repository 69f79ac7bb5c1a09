"""Transposed convolutions."""

from typing import NamedTuple

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema

from edgeward.kit.errors import Unsupported
from edgeward.optimize.exporters.litert.conversion import Conversion, Handler
from edgeward.optimize.exporters.litert.graph import attribute
from edgeward.optimize.exporters.litert.values import CHANNELS_LAST, Value
from edgeward.optimize.exporters.litert.weighted import (
    Weights,
    bias_int32,
    can_be_int8,
    channels_last,
    floats,
    pad,
    weights_of,
    without_row,
)


class Stretch(NamedTuple):
    """How far it reaches over height and width before anything is cut off, and what is cut off at top and left."""

    strides: tuple[int, int]
    full: tuple[int, int]
    begins: tuple[int, int]
    wanted: tuple[int, int]

    @property
    def is_same(self) -> bool:
        """Whether LiteRT's own "same" padding cuts off just that: half of the rest, rounded down, at the front."""
        rests = [max(full - wanted, 0) for full, wanted in zip(self.full, self.wanted, strict=True)]
        return self.begins == (rests[0] // 2, rests[1] // 2) and all(
            full >= wanted for full, wanted in zip(self.full, self.wanted, strict=True)
        )


def conv_transpose(conversion: Conversion, node: onnx.NodeProto) -> None:
    """In int8 where input, weights and result are. What padding takes away is cut off behind the operator."""
    weight = conversion.value(node.input[1])
    rank = len(weight.shape)
    has_bias = len(node.input) > 2 and bool(node.input[2])
    bias = conversion.constant(node.input[2]) if has_bias else None
    if weight.constant is None or rank not in (3, 4) or (has_bias and bias is None):
        raise Unsupported("LiteRT: a ConvTranspose with computed weights or over three spatial axes")
    if any(step != 1 for step in attribute(node, "dilations", [1])):
        raise Unsupported("LiteRT: a ConvTranspose with dilations")
    kernel = _kernel(weight, attribute(node, "group", 1))
    source = channels_last(conversion, conversion.value(node.input[0]))
    stretch = _stretch(conversion, node, kernel.shape[2:], source.shape[2:])
    result = _written(conversion, node, source, weights_of(kernel, bias, kernel.shape[0]), stretch)
    if rank == 3:
        conversion.tell(node.output[0], without_row(conversion, result, rank))


def _kernel(weight: Value, groups: int) -> Value:
    """The weights with outputs first, and zeros between groups: LiteRT knows none."""
    if len(weight.shape) == 3:
        weight = weight._replace(constant=weight.held[:, :, None], shape=weight.held[:, :, None].shape)
    held, quantisation = weight.held, weight.quantisation
    if groups > 1:
        if quantisation is not None and any(quantisation.zero_points):
            raise Unsupported("LiteRT: a grouped ConvTranspose whose weights are not quantised around zero")
        if quantisation is not None and not quantisation.is_per_tensor:
            raise Unsupported("LiteRT: a grouped ConvTranspose with a scale for each channel")
        inputs, outputs = held.shape[0] // groups, held.shape[1]
        dense = np.zeros((held.shape[0], outputs * groups, *held.shape[2:]), held.dtype)
        for group in range(groups):
            rows = slice(group * inputs, (group + 1) * inputs)
            dense[rows, group * outputs : (group + 1) * outputs] = held[rows]
        held = dense
    turned = np.ascontiguousarray(held.transpose(1, 0, 2, 3))
    if quantisation is not None and not quantisation.is_per_tensor:
        quantisation = quantisation._replace(axis={0: 1, 1: 0}[quantisation.axis])
    return weight._replace(constant=turned, shape=turned.shape, quantisation=quantisation)


def _stretch(conversion: Conversion, node: onnx.NodeProto, kernel: tuple[int, ...], size: tuple[int, ...]) -> Stretch:
    wanted = conversion.shape(node.output[0])[2:]
    strides = list(attribute(node, "strides", [1] * len(wanted)))
    begins = list(attribute(node, "pads", [0] * (2 * len(wanted))))[: len(wanted)]
    if len(wanted) == 1:
        wanted, strides, begins = (1, *wanted), [1, *strides], [0, *begins]
    full = [(size[axis] - 1) * strides[axis] + kernel[axis] for axis in (0, 1)]
    automatic = attribute(node, "auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER") or attribute(node, "output_shape") is not None:
        rests = [max(full[axis] - wanted[axis], 0) for axis in (0, 1)]
        begins = [rest // 2 if automatic == "SAME_UPPER" else rest - rest // 2 for rest in rests]
    return Stretch((strides[0], strides[1]), (full[0], full[1]), (begins[0], begins[1]), (wanted[0], wanted[1]))


def _written(conversion: Conversion, node: onnx.NodeProto, source: Value, weights: Weights, stretch: Stretch) -> Value:
    values, flat = conversion.values, conversion.flat
    ending = conversion.ending(node.output[0], fuse=False)
    is_int8 = can_be_int8(source, weights, ending) and stretch.is_same
    source = source if is_int8 else values.floating(source)
    size = stretch.wanted if stretch.is_same else stretch.full
    quantisation = ending.quantisation if is_int8 else None
    result = values.new(
        (source.shape[0], weights.weight.shape[0], *size), CHANNELS_LAST, "int8" if is_int8 else "float32", quantisation
    )
    options = schema.TransposeConvOptionsT()
    options.padding = schema.Padding.SAME if stretch.is_same else schema.Padding.VALID
    options.strideH, options.strideW = stretch.strides
    sizes = flat.constant(np.array(result.stored, np.int32))
    if is_int8 and source.quantisation is not None and weights.quantisation is not None:
        kernel = values.index(values.constant(weights.weight, CHANNELS_LAST, weights.quantisation))
        bias = flat.constant(*bias_int32(source.quantisation.scales[0], weights.quantisation, weights.bias))
    else:
        kernel = values.index(values.constant(floats(weights), CHANNELS_LAST))
        bias = flat.constant(np.ascontiguousarray(weights.bias))
    flat.operator("TRANSPOSE_CONV", [sizes, kernel, values.index(source), bias], [result.tensor], options)
    if not stretch.is_same:
        result = _cut(conversion, result, weights, stretch)
    if ending.quantisation is not None:
        result = values.quantised(result, ending.quantisation)
    conversion.finish(ending, result)
    return result


def _cut(conversion: Conversion, result: Value, weights: Weights, stretch: Stretch) -> Value:
    """The wanted part of it. Rows and columns that lie beyond the reach of every weight hold the bias alone."""
    missing = [max(stretch.begins[axis] + stretch.wanted[axis] - stretch.full[axis], 0) for axis in (0, 1)]
    if any(missing):
        if np.any(weights.bias):
            raise Unsupported("LiteRT: a ConvTranspose whose output padding lies beyond its kernel")
        result = pad(conversion, result, [(0, 0), (0, missing[0]), (0, missing[1]), (0, 0)], 0.0)
    if result.shape[2:] == stretch.wanted and not any(stretch.begins):
        return result
    smaller = conversion.values.new((*result.shape[:2], *stretch.wanted), CHANNELS_LAST, "float32")
    begin = conversion.flat.constant(np.array([0, *stretch.begins, 0], np.int32))
    size = conversion.flat.constant(np.array(smaller.stored, np.int32))
    conversion.flat.operator("SLICE", [result.tensor, begin, size], [smaller.tensor], schema.SliceOptionsT())
    return smaller


HANDLERS: dict[str, Handler] = {"ConvTranspose": conv_transpose}
