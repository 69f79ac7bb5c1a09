"""The micro-benchmarks of the roofs: products and convolutions that keep every unit busy, and a pass over memory."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET = 13


class RoofModel(NamedTuple):
    """`operations` of one run (two for a multiplication with its addition), or the bytes it reads and writes."""

    name: str
    data: bytes
    operations: int = 0
    moved_bytes: int = 0


class RoofShape(NamedTuple):
    """A product (rows, inner, columns) or a convolution over pixels (side, channels in and out, window)."""

    name: str
    sizes: tuple[int, ...]

    @property
    def macs(self) -> int:
        if len(self.sizes) == 3:
            return int(np.prod(self.sizes))
        side, channels, outputs, window = self.sizes
        return side * side * channels * outputs * window * window


SHAPES = (
    RoofShape("product 256×512×512", (256, 512, 512)),
    RoofShape("convolution 3×3, 28×28, 64 to 64", (28, 64, 64, 3)),
    RoofShape("convolution 1×1, 28×28, 256 to 256", (28, 256, 256, 1)),
)
"""Which of them is fastest differs between runtimes; the fastest is the roof."""


def compute_models(make: Callable[[RoofShape], bytes]) -> tuple[RoofModel, ...]:
    """One for each shape, in the format and precision of `make`."""
    return tuple(RoofModel(shape.name, make(shape), operations=2 * shape.macs) for shape in SHAPES)


def onnx_float(shape: RoofShape) -> bytes:
    return _onnx(shape, None)


def onnx_int8(activations: str) -> Callable[[RoofShape], bytes]:
    """Between a rounding and its undoing, as quantised models have it: every runtime makes one kernel of that."""
    return lambda shape: _onnx(shape, activations)


def onnx_pass(count: int) -> RoofModel:
    """Reads `count` numbers and writes as many."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "roof", value[:1], value[1:])
    return RoofModel(f"Relu over {8 * count >> 10} KiB", _packed(graph), moved_bytes=8 * count)


def _weights(shape: RoofShape) -> NDArray[np.float32]:
    generator = np.random.default_rng(0)
    if len(shape.sizes) == 3:
        return generator.uniform(-1, 1, shape.sizes[1:]).astype(np.float32)
    _, channels, outputs, window = shape.sizes
    return generator.uniform(-1, 1, (outputs, channels, window, window)).astype(np.float32)


def _onnx(shape: RoofShape, activations: str | None) -> bytes:
    weights = _weights(shape)
    is_product = len(shape.sizes) == 3
    dims = [[shape.sizes[0], shape.sizes[1]], [shape.sizes[0], shape.sizes[2]]]
    if not is_product:
        side, channels, outputs, _ = shape.sizes
        dims = [[1, channels, side, side], [1, outputs, side, side]]
    nodes, constants = list[onnx.NodeProto](), list[TensorProto]()
    feed, weight, result = "x", "w", "y"
    if activations is None:
        constants.append(numpy_helper.from_array(weights, "w"))
    else:
        feed, weight, result = "xd", "wd", "yf"
        scaled = np.rint(weights * 63).astype(np.int8)
        values = {"w": scaled, "s": np.array(0.02, np.float32), "ws": np.array(1 / 63, np.float32),
                  "z": np.array(128 if activations == "uint8" else 0, activations),
                  "wz": np.array(0, np.int8)}  # fmt: skip
        constants += [numpy_helper.from_array(value, name) for name, value in values.items()]
        nodes += _rounded("x", "xd")
        nodes.append(helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]))
    if is_product:
        nodes.append(helper.make_node("MatMul", [feed, weight], [result], name="roof"))
    else:
        pads = [shape.sizes[3] // 2] * 4
        nodes.append(helper.make_node("Conv", [feed, weight], [result], name="roof", pads=pads))
    if activations is not None:
        nodes += _rounded("yf", "y")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, d) for n, d in zip("xy", dims, strict=True)]
    return _packed(helper.make_graph(nodes, "roof", ends[:1], ends[1:], constants))


def _rounded(name: str, to: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [to]),
    ]


def _packed(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    return bytes(model.SerializeToString())
