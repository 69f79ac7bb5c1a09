"""Small networks made by code, with the heads that exporters really write."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def _model(nodes, inputs, outputs, constants):
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(v, k) for k, v in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _values(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def conv_net(*, channels=3, size=8, kernel=3, stride=1, pads=(1, 1, 1, 1), nhwc=False, seed=0):
    """Conv, Relu, global pool, Gemm; `nhwc` begins with a Transpose, as tf2onnx writes it."""
    generator = np.random.default_rng(seed)
    constants = {
        "w": generator.normal(size=(4, channels, kernel, kernel)).astype(np.float32) / kernel,
        "b": generator.normal(size=4).astype(np.float32),
        "gw": generator.normal(size=(4, 3)).astype(np.float32),
        "gb": generator.normal(size=3).astype(np.float32),
    }
    first = "t" if nhwc else "x"
    nodes = [
        *([helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])] if nhwc else []),
        helper.make_node("Conv", [first, "w", "b"], ["c"], pads=list(pads), strides=[stride, stride], name="conv"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "gw", "gb"], ["y"], name="gemm"),
    ]
    shape = ["batch", size, size, channels] if nhwc else ["batch", channels, size, size]
    return _model(nodes, [_values("x", shape)], [_values("y", ["batch", 3])], constants)


def dense_net(*, features=6, gemm=True, seed=0):
    """Gemm, or MatMul and Add, first."""
    generator = np.random.default_rng(seed)
    constants = {
        "w": generator.normal(size=(features, 5)).astype(np.float32),
        "b": generator.normal(size=5).astype(np.float32),
    }
    nodes = (
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
        if gemm
        else [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    )
    return _model(nodes, [_values("x", ["batch", features])], [_values("y", ["batch", 5])], constants)


def branching_net(seed=0):
    """The input is used twice, so no weights stand alone behind it."""
    generator = np.random.default_rng(seed)
    constants = {"w": generator.normal(size=(3, 3, 1, 1)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Add", ["c", "x"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    return _model(nodes, [_values("x", ["batch", 3, 8, 8])], [_values("y", ["batch", 3])], constants)
