"""Models that take a 640 × 640 × 3 uint8 frame: a small convolutional network, and one that does next to nothing."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, parser, save

SHAPE = (640, 640, 3)
_CHANNELS = (3, 16, 32, 64)
_LIGHT = """<ir_version: 8, opset_import: ["": 17]>
light (uint8[batch,640,640,3] frame) => (float[batch,3] scores) {
  from = Constant <value = int64[2] {0, 0}> ()
  to = Constant <value = int64[2] {640, 640}> ()
  axes = Constant <value = int64[2] {1, 2}> ()
  step = Constant <value = int64[2] {16, 16}> ()
  some = Slice (frame, from, to, axes, step)
  x = Cast <to = 1> (some)
  scores = ReduceMean <axes = [1, 2], keepdims = 0> (x)
}"""


def write_light(file: Path) -> Path:
    save(parser.parse_model(_LIGHT), file)
    return file


def write_network(file: Path) -> Path:
    """Three convolutions of step 2, then the mean and ten scores: 281 million multiply-accumulates."""
    generator = np.random.default_rng(1)
    weights = {
        f"w{index}": generator.normal(0, 0.05, (out, given, 3, 3))
        for index, (given, out) in enumerate(pairwise(_CHANNELS))
    } | {"last": generator.normal(0, 0.1, (_CHANNELS[-1], 10)), "scale": np.full(1, 1 / 255)}
    nodes = [
        helper.make_node("Cast", ["frame"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    for index in range(len(_CHANNELS) - 1):
        nodes.append(
            helper.make_node("Conv", [f"x{index}", f"w{index}"], [f"y{index}"], strides=[2, 2], pads=[1, 1, 1, 1])
        )
        nodes.append(helper.make_node("Relu", [f"y{index}"], [f"x{index + 1}"]))
    nodes.append(helper.make_node("ReduceMean", [f"x{len(_CHANNELS) - 1}"], ["mean"], axes=[2, 3], keepdims=0))
    nodes.append(helper.make_node("MatMul", ["mean", "last"], ["scores"]))
    graph = helper.make_graph(
        nodes,
        "frames",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, ["batch", *SHAPE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file
