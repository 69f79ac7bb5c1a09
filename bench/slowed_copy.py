"""A small convolution network, and copies of it that do a chosen amount of work more: real model files, for comparisons
whose truth is known."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_PASSES = 5
_SIDE, _WIDTH, _BLOCKS, _CLASSES = 32, 16, 3, 10


def network(extra: int = 0) -> bytes:
    """A residual network of the size of MLPerf Tiny's resnet8, with random weights. `extra` is how many times Erf is
    computed besides, five times over for a part of the input; its mean, times zero, is added to the answer: work that
    changes nothing and cannot be left out."""
    generator = np.random.default_rng(0)
    weights: dict[str, NDArray[np.float32]] = {}
    nodes = []

    def convolve(source: str, name: str, inputs: int, outputs: int, size: int, stride: int) -> str:
        weights[f"{name}.w"] = (generator.standard_normal((outputs, inputs, size, size)) / (size * inputs)).astype("f4")
        weights[f"{name}.b"] = np.zeros(outputs, np.float32)
        pads = [size // 2] * 4
        nodes.append(
            helper.make_node(
                "Conv", [source, f"{name}.w", f"{name}.b"], [name], kernel_shape=[size, size],
                strides=[stride, stride], pads=pads,
            )
        )  # fmt: skip
        return name

    def relu(source: str) -> str:
        nodes.append(helper.make_node("Relu", [source], [f"{source}.relu"]))
        return f"{source}.relu"

    last, width = relu(convolve("image", "stem", 3, _WIDTH, 3, 1)), _WIDTH
    for block in range(_BLOCKS):
        wider = _WIDTH * 2**block
        stride = 1 if block == 0 else 2
        main = relu(convolve(last, f"b{block}.first", width, wider, 3, stride))
        main = convolve(main, f"b{block}.second", wider, wider, 3, 1)
        beside = last if block == 0 else convolve(last, f"b{block}.beside", width, wider, 1, stride)
        nodes.append(helper.make_node("Add", [main, beside], [f"b{block}.sum"]))
        last, width = relu(f"b{block}.sum"), wider
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    weights["head"] = generator.standard_normal((width, _CLASSES)).astype("f4")
    nodes.append(helper.make_node("MatMul", ["flat", "head"], ["scores" if extra == 0 else "plain"]))
    if extra:
        nodes += _more_work(extra, weights)
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, _CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def _more_work(extra: int, weights: dict[str, NDArray]) -> list[onnx.NodeProto]:
    weights["all"] = np.array([1, -1], np.int64)
    weights["from"], weights["to"], weights["axis"] = (np.array([n], np.int64) for n in (0, extra // _PASSES, 1))
    weights["nothing"] = np.zeros(1, np.float32)
    made = helper.make_node
    return [
        made("Reshape", ["image", "all"], ["line"]), made("Slice", ["line", "from", "to", "axis"], ["part"]),
        *(made("Erf", [f"part{turn or ''}"], [f"part{turn + 1}"]) for turn in range(_PASSES)),
        made("ReduceMean", [f"part{_PASSES}"], ["one"], axes=[1], keepdims=1),
        made("Mul", ["one", "nothing"], ["zero"]), made("Add", ["plain", "zero"], ["scores"]),
    ]  # fmt: skip
