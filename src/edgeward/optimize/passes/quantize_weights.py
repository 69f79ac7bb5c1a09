"""Weights of matrix products in int8, one scale for each output, or in int4, one scale for each block of them along
the inputs; activations stay as they are.

A quarter of the size everywhere, or about a sixth. In int8, LiteRT quantises the activations of such a product while
it runs (dynamic int8); ONNX Runtime and OpenVINO compute it in float. In int4, ONNX Runtime multiplies by blocks with
activations in int8 and OpenVINO in float: it pays where reading the weights is what takes the time, as with large
products of few rows. LiteRT has no such blocks. (Block-wise DequantizeLinear came with ONNX opset 21.)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.optimize.passes.base import Context, DoesNotApply, Pass, Passed
from edgeward.optimize.wiring import Array, Wiring, attribute
from edgeward.records.candidate import Step

_LEAST_WEIGHTS = 256
"""Below so many a scale and two operators cost more than they save."""
_OPSET_WITH_BLOCKS = 21
_SHRINKINGS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
"""Parts of a block's range that are tried: in four bits, clipping the largest weight often loses less."""


class QuantizeWeights:
    """Options: bits 8|4 (8), block 16|32|64|128 (32; weights that share a scale in four bits), least_share (0; it does
    not apply where these products hold a smaller share of the model's weights)."""

    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:
        options = {"bits": 8, "block": 32, "least_share": 0.0, **step.options}
        if options["bits"] not in (4, 8) or options["block"] not in (16, 32, 64, 128):
            raise WrongInput(
                f"quantize-weights: bits {options['bits']!r} and block {options['block']!r}, "
                "wanted 4 or 8 and 16, 32, 64 or 128"
            )
        wiring = Wiring(model if options["bits"] == 8 else _with_blocks(model))
        counts = {"int4": 0, "int8": 0}
        products = _products(wiring)
        _check_share(model, products, float(options["least_share"]))
        for node, values in products:
            in_blocks = options["bits"] == 4 and _fits_blocks(node, values, int(options["block"]))
            if in_blocks:
                _in_blocks(wiring, node, values, int(options["block"]))
            else:
                _by_output(wiring, node, values)
            counts["int4" if in_blocks else "int8"] += 1
        _check(counts, options)
        told = [f"{precision} weights in {count} matrix products" for precision, count in counts.items() if count]
        return Passed(wiring.model, context.preprocess, tuple(told))


def _products(wiring: Wiring) -> list[tuple[onnx.NodeProto, Array]]:
    """Matrix products with constant weights that are worth it, and these weights."""
    found = []
    for node in wiring.graph.node:
        values = wiring.constant(node, 1) if node.op_type in ("MatMul", "Gemm") else None
        if values is not None and values.dtype == np.float32 and values.ndim == 2 and values.size >= _LEAST_WEIGHTS:
            found.append((node, values))
    return found


def _check_share(model: onnx.ModelProto, products: Sequence[tuple[onnx.NodeProto, Array]], least: float) -> None:
    mine = sum(values.size for _, values in products)
    whole = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    if mine < least * whole:
        raise DoesNotApply(f"its matrix products hold {mine / whole:.0%} of the weights; worth it from {least:.0%} on")


def _check(counts: Mapping[str, int], options: Mapping[str, Any]) -> None:
    if not any(counts.values()):
        raise DoesNotApply("there is no matrix product with constant weights in it")
    if options["bits"] == 4 and not counts["int4"]:
        raise DoesNotApply(f"there is no matrix product whose inputs come in blocks of {options['block']}")


def _by_output(wiring: Wiring, node: onnx.NodeProto, values: Array) -> None:
    """Symmetric around zero, with 127 for the largest weight of each output."""
    axis = 0 if attribute(node, "transB", 0) else 1
    largest = np.abs(values).max(axis=1 - axis)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    stored = np.rint(values / (scale[:, None] if axis == 0 else scale[None, :])).astype(np.int8)
    name = f"{node.output[0]}_weights"
    inputs = [
        wiring.add_constant(f"{name}_{part}", value)
        for part, value in (("int8", stored), ("scale", scale), ("zero", np.zeros(len(scale), np.int8)))
    ]
    _read_by_way_of(wiring, node, helper.make_node("DequantizeLinear", inputs, [f"{name}_float"], axis=axis))


def _fits_blocks(node: onnx.NodeProto, values: Array, block: int) -> bool:
    plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0 and not attribute(node, "transA", 0)
    inputs = values.shape[1 if attribute(node, "transB", 0) else 0]
    return plain and inputs % block == 0


def _in_blocks(wiring: Wiring, node: onnx.NodeProto, values: Array, block: int) -> None:
    """Inputs × outputs, read by a MatMul: that is what runtimes know to multiply by blocks."""
    by_input = values.T if attribute(node, "transB", 0) else values
    stored, scale = blocks_of(by_input, block)
    name = f"{node.output[0]}_weights"
    packed = wiring.graph.initializer.add()
    packed.CopyFrom(numpy_helper.from_array(stored.astype(helper.tensor_dtype_to_np_dtype(TensorProto.INT4))))
    packed.name = wiring.free_name(f"{name}_int4")
    inputs = [packed.name, wiring.add_constant(f"{name}_scale", scale)]
    _read_by_way_of(
        wiring, node, helper.make_node("DequantizeLinear", inputs, [f"{name}_float"], axis=0, block_size=block)
    )
    if node.op_type == "Gemm":
        _as_matmul(wiring, node)


def blocks_of(weights: Array, block: int) -> tuple[Array, Array]:
    """Whole numbers from −8 to 7, and the scale of each block of inputs, by least squared error."""
    split = weights.astype(np.float64).reshape(-1, block, weights.shape[1])
    largest = np.abs(split).max(axis=1)
    whole = np.where(largest > 0, largest / 7, 1.0)
    scales = np.stack([whole * shrinking for shrinking in _SHRINKINGS]).astype(np.float32).astype(np.float64)
    errors = [np.square(_rounded(split, scale) * scale[:, None] - split).sum(axis=1) for scale in scales]
    best = np.take_along_axis(scales, np.argmin(errors, axis=0)[None], axis=0)[0]
    return _rounded(split, best).reshape(weights.shape).astype(np.int8), best.astype(np.float32)


def _rounded(split: Array, scale: Array) -> Array:
    return np.clip(np.rint(split / scale[:, None]), -8, 7)


def _read_by_way_of(wiring: Wiring, node: onnx.NodeProto, rounding: onnx.NodeProto) -> None:
    """`node` reads its weights from `rounding`; the float ones go where nothing else reads them."""
    old = node.input[1]
    rounding.output[0] = wiring.free_name(rounding.output[0])
    node.input[1] = rounding.output[0]
    wiring.insert(0, rounding)
    wiring.drop_unread(old)


def _as_matmul(wiring: Wiring, node: onnx.NodeProto) -> None:
    product = wiring.free_name(f"{node.output[0]}_product")
    place = list(wiring.graph.node).index(node)
    if wiring.is_left_out(node, 2):
        nodes = [helper.make_node("MatMul", node.input[:2], [node.output[0]], name=node.name)]
    else:
        nodes = [
            helper.make_node("MatMul", node.input[:2], [product], name=node.name),
            helper.make_node("Add", [product, node.input[2]], [node.output[0]]),
        ]
    wiring.remove([node])
    for offset, made in enumerate(nodes):
        wiring.insert(place + offset, made)


def _with_blocks(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an opset that has block-wise scales. Raises Unsupported where it cannot be brought there."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset >= _OPSET_WITH_BLOCKS:
        return model
    try:
        converted = version_converter.convert_version(model, _OPSET_WITH_BLOCKS)
    except Exception as error:  # the converter raises RuntimeError, and others for what it never met
        raise Unsupported(
            f"int4 weights need opset {_OPSET_WITH_BLOCKS}, and a part of this model, in {opset}, has no rule for it"
        ) from error
    converted.ir_version = max(converted.ir_version, 10)  # the first with int4
    return converted


plugin: Pass = QuantizeWeights()
