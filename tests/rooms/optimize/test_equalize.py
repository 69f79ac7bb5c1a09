"""Equalised layers answer as before, and their channels reach alike."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import runtimes
from edgeward.optimize import passes
from edgeward.records.candidate import Step


def chain(*, activation="Relu", middle="plain", flatten=True, with_bias=True, seed=0):
    """Conv → activation → (depthwise, grouped or plain) Conv → activation → Flatten or mean → Gemm."""
    generator = np.random.default_rng(seed)
    group = {"plain": 1, "depthwise": 8, "grouped": 2}[middle]
    uneven = 10.0 ** generator.uniform(-2, 2, (8, 1, 1, 1))
    size = 8 * 16 if flatten else 8
    constants = {
        "w1": generator.normal(size=(8, 3, 3, 3)) * uneven, "b1": generator.normal(size=8),
        "w2": generator.normal(size=(8, 8 // group, 3, 3)), "b2": generator.normal(size=8),
        "w3": generator.normal(size=(size, 5)), "b3": generator.normal(size=5), "zero": np.zeros(()),
        "six": np.full((), 6.0),
    }  # fmt: skip

    def between(name):
        if activation == "Clip6":
            return helper.make_node("Clip", [name, "zero", "six"], [f"{name}_a"])
        if activation == "Clip":
            return helper.make_node("Clip", [name, "zero"], [f"{name}_a"])
        return helper.make_node(activation, [name], [f"{name}_a"])

    nodes = [
        helper.make_node("Conv", ["x", "w1", *(["b1"] if with_bias else [])], ["c1"], pads=[1, 1, 1, 1]),
        between("c1"),
        helper.make_node("Conv", ["c1_a", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], group=group),
        between("c2"),
        helper.make_node("MaxPool", ["c2_a"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        *([] if flatten else [helper.make_node("GlobalAveragePool", ["p"], ["mean"])]),
        helper.make_node("Flatten", ["p" if flatten else "mean"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def equalised(model):
    return passes.load("equalize").apply(model, Step(use="equalize"), passes.Context((), "tensor", ()))


def answer(model, value):
    return runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1).run({"x": value})[0]


def ranges(model, node_index):
    node = model.graph.node[node_index]
    weight = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == node.input[1])
    return np.abs(weight.reshape(len(weight), -1)).max(axis=1)


@settings(max_examples=40, deadline=None)
@given(
    activation=st.sampled_from(["Relu", "LeakyRelu", "Identity", "Clip"]),
    middle=st.sampled_from(["plain", "depthwise", "grouped"]), flatten=st.booleans(), with_bias=st.booleans(),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_equalised_layers_answer_as_before_and_their_channels_reach_alike(activation, middle, flatten, with_bias, seed):
    model = chain(activation=activation, middle=middle, flatten=flatten, with_bias=with_bias, seed=seed)
    made, _, notes = equalised(model)
    value = np.random.default_rng(seed).normal(size=(4, 3, 8, 8)).astype(np.float32)
    wanted = answer(model, value)
    np.testing.assert_allclose(answer(made, value), wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    assert notes[0].startswith("2 pairs")
    before, after = (one.max() / one.min() for one in (ranges(model, 0), ranges(made, 0)))
    assert after < before / 2


def test_relu6_is_not_scaled_by_its_input_and_left_alone():
    with pytest.raises(passes.DoesNotApply):
        equalised(chain(activation="Clip6"))


def test_a_value_that_two_layers_read_is_left_alone():
    model = chain(flatten=False)
    model.graph.node.append(helper.make_node("GlobalMaxPool", ["c1_a"], ["other"]))
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, None))
    _, _, notes = equalised(model)
    assert notes[0].startswith("1 pairs")


def test_weights_that_two_layers_share_are_left_alone():
    model = chain()
    model.graph.node.insert(3, helper.make_node("Conv", ["c2", "w2", "b2"], ["again"], pads=[1, 1, 1, 1]))
    model.graph.node[4].input[0] = "again"
    onnx.checker.check_model(model)
    with pytest.raises(passes.DoesNotApply):
        equalised(model)


def test_channels_without_a_weight_stay_as_they_are():
    model = chain()
    for tensor in model.graph.initializer:
        if tensor.name in ("w1", "w2"):
            values = numpy_helper.to_array(tensor).copy()
            values[2] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    made, _, _ = equalised(model)
    value = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    wanted = answer(model, value)
    np.testing.assert_allclose(answer(made, value), wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
