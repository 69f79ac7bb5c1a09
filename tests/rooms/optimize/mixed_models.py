"""Networks whose layers bear int8 unequally."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def residual_net(*, channels=6, unequal=1.0, named=True, seed=0):
    """Six layers: a Conv, two residual blocks of one and two Convs, a pool and a Gemm; 8x8x3 images to 4 scores.

    `unequal` multiplies what one channel of the first Conv gives, and divides the weights of the next layer that read
    it: the answers stay the same, and a scale for the whole tensor does not serve them both.
    """
    generator = np.random.default_rng(seed)

    def weight(out, into, side):
        return (generator.normal(size=(out, into, side, side)) / np.sqrt(into * side * side)).astype(np.float32)

    constants = {"w0": weight(channels, 3, 3), **{f"w{i}": weight(channels, channels, 3) for i in (1, 2, 3, 4)}}
    constants |= {f"b{i}": generator.normal(size=channels).astype(np.float32) / 4 for i in range(5)}
    constants["wg"] = generator.normal(size=(channels, 4)).astype(np.float32)
    constants["bg"] = generator.normal(size=4).astype(np.float32)
    constants["w0"][0] *= unequal
    constants["b0"][0] *= unequal
    constants["w1"][:, 0] /= unequal

    def conv(index, source, target):
        return helper.make_node(
            "Conv", [source, f"w{index}", f"b{index}"], [target], pads=[1] * 4, name=f"conv{index}" if named else ""
        )

    nodes = [
        conv(0, "x", "c0"), helper.make_node("Relu", ["c0"], ["r0"]),
        conv(1, "r0", "c1"), helper.make_node("Relu", ["c1"], ["r1"]),
        conv(2, "r1", "c2"), helper.make_node("Add", ["c2", "r1"], ["s2"]), helper.make_node("Relu", ["s2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p2"], kernel_shape=[2, 2], strides=[2, 2]),
        conv(3, "p2", "c3"), helper.make_node("Relu", ["c3"], ["r3"]),
        conv(4, "r3", "c4"), helper.make_node("Add", ["c4", "p2"], ["s4"]), helper.make_node("Relu", ["s4"], ["r4"]),
        helper.make_node("GlobalAveragePool", ["r4"], ["g"]), helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "wg", "bg"], ["y"], name="gemm" if named else ""),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def samples_of(count=48, seed=1):
    generator = np.random.default_rng(seed)
    return [{"x": generator.normal(size=(3, 8, 8)).astype(np.float32)} for _ in range(count)]
