"""What stands at the head of a graph goes into its first weights, exactly, or stays."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import runtimes
from edgeward.optimize import passes
from edgeward.records.candidate import Step
from edgeward.records.model import ToLayout


def headed(head, constants, *, tail="conv", pads=(0, 0, 0, 0), group=1, shape=("batch", 4, 6, 6)):
    """`head`: (operator, inputs, attributes) one after another; then Conv, Gemm or MatMul and Add."""
    generator = np.random.default_rng(0)
    nodes, value = [], "x"
    for index, (operator, inputs, attributes) in enumerate(head):
        names = [value if name == "@" else name for name in inputs]
        nodes.append(helper.make_node(operator, names, [f"h{index}"], **attributes))
        value = f"h{index}"
    if tail == "conv":
        constants |= {"w": generator.normal(size=(8, 4 // group, 3, 3)), "b": generator.normal(size=8)}
        nodes.append(helper.make_node("Conv", [value, "w", "b"], ["y"], pads=list(pads), group=group))
    elif tail == "gemm":
        constants |= {"w": generator.normal(size=(5, shape[-1])), "b": generator.normal(size=5)}
        nodes.append(helper.make_node("Gemm", [value, "w", "b"], ["y"], transB=1))
    else:
        constants |= {"w": generator.normal(size=(shape[-1], 5)), "b": generator.normal(size=5)}
        nodes += [
            helper.make_node("MatMul", [value, "w"], ["product"]),
            helper.make_node("Add", ["b", "product"], ["y"]),
        ]
    whole = {name: np.asarray(value) for name, value in constants.items()}
    tensors = [numpy_helper.from_array(v if v.dtype == np.int64 else v.astype(np.float32), k) for k, v in whole.items()]
    value_of = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value_of("x", TensorProto.FLOAT, shape)], [value_of("y", TensorProto.FLOAT, None)], tensors
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def folded(model, samples=(), **options):
    context = passes.Context(samples, "tensor", ())
    return passes.load("fold-leading").apply(model, Step(use="fold-leading", options=options), context)


def answer(model, value):
    session = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)
    return session.run({"x": value})[0]


def assert_same_answers(model, other, shape):
    for seed in range(3):
        value = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
        wanted = answer(model, value)
        np.testing.assert_allclose(answer(other, value), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def operators(model):
    return [node.op_type for node in model.graph.node]


SUB_DIV = [("Sub", ["@", "m"], {}), ("Div", ["@", "s"], {})]


@settings(max_examples=30, deadline=None)
@given(
    order=st.lists(st.sampled_from(["Add", "Sub", "SubFrom", "Mul", "Div"]), min_size=1, max_size=4),
    padded=st.booleans(), group=st.sampled_from([1, 2, 4]), by_channel=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip
def test_any_chain_of_arithmetic_leaves_the_answers_and_at_most_one_offset(order, padded, group, by_channel, seed):
    generator = np.random.default_rng(seed)
    constants = {f"c{i}": generator.uniform(0.5, 2, (4, 1, 1) if by_channel else ()) for i in range(len(order))}
    head = [
        ("Sub", [f"c{i}", "@"], {}) if name == "SubFrom" else (name, ["@", f"c{i}"], {}) for i, name in enumerate(order)
    ]
    model = headed(head, constants, pads=(1, 0, 1, 1) if padded else (0, 0, 0, 0), group=group)
    made, _, _ = folded(model, rounded=False)
    assert_same_answers(model, made, (4, 6, 6))
    left = operators(made)[:-1]
    assert len(left) <= padded
    assert set(left) <= {"Add", "Sub"}


@pytest.mark.parametrize("tail", ["gemm", "matmul"])
def test_features_of_a_table_are_normalised_by_the_first_weights(tail):
    model = headed(SUB_DIV, {"m": np.arange(6.0), "s": np.arange(1.0, 7)}, tail=tail, shape=("batch", 6))
    made, _, notes = folded(model, rounded=False)
    assert len(notes) == 1
    assert not {"Div", "Sub"} & set(operators(made))
    assert_same_answers(model, made, (6,))


def test_a_batch_normalisation_and_a_transpose_at_the_head_are_followed():
    constants = {name: np.random.default_rng(3).uniform(0.5, 1.5, 6) for name in ("g", "o", "mean", "var")}
    head = [("BatchNormalization", ["@", "g", "o", "mean", "var"], {}), ("Transpose", ["@"], {"perm": [0, 3, 1, 2]})]
    model = headed([head[1]], {}, shape=("batch", 6, 6, 4))
    made, _, _ = folded(model, rounded=False)
    assert made is model, "there is nothing to fold"
    model = headed(head, constants, shape=("batch", 6, 6, 4))
    made, _, _ = folded(model, rounded=False)
    assert_same_answers(model, made, (6, 6, 4))
    assert "BatchNormalization" in operators(made), "after the transpose it varies along the width, no weights take it"


def test_one_mean_for_each_place_of_a_picture_stays():
    model = headed(SUB_DIV, {"m": np.arange(6.0), "s": 2.0}, pads=(0, 0, 0, 0))
    made, _, _ = folded(model, rounded=False)
    assert made is model


def test_a_constant_that_makes_the_input_larger_stays():
    model = headed(SUB_DIV, {"m": np.arange(4.0).reshape(4, 1, 1), "s": 2.0}, shape=("batch", 1, 6, 6))
    made, _, _ = folded(model, rounded=False)
    assert made is model


@pytest.mark.parametrize("scale", [0.0, np.nan, np.inf])
def test_a_scale_that_is_no_number_stays(scale):
    model = headed([("Mul", ["@", "s"], {})], {"s": scale})
    assert folded(model, rounded=False)[0] is model


def test_features_of_unlike_ranges_stay_normalised_where_one_scale_is_for_all_of_them():
    spread = np.array([1.0, 10, 100, 1000, 1, 1])
    model = headed(SUB_DIV, {"m": np.zeros(6), "s": spread}, tail="gemm", shape=("batch", 6))
    samples = [{"x": (np.random.default_rng(i).normal(size=6) * spread).astype(np.float32)} for i in range(32)]
    assert folded(model, samples)[0] is model
    alike = headed(SUB_DIV, {"m": np.zeros(6), "s": np.ones(6) * 50}, tail="gemm", shape=("batch", 6))
    made, _, notes = folded(alike, samples)
    assert len(notes) == 1
    assert operators(made) == ["Gemm"]


def test_the_weights_of_another_layer_stay_when_they_are_shared():
    model = headed(SUB_DIV, {"m": 0.5, "s": 2.0}, tail="conv")
    graph = model.graph
    graph.node.append(helper.make_node("Conv", ["z", "w"], ["y2"]))
    graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 4, 6, 6]))
    graph.output.append(helper.make_tensor_value_info("y2", TensorProto.FLOAT, None))
    before = onnx.ModelProto.FromString(model.SerializeToString())
    made, _, notes = folded(model, rounded=False)
    feed = {name: np.random.default_rng(0).normal(size=(1, 4, 6, 6)).astype(np.float32) for name in ("x", "z")}
    ours, theirs = (
        runtimes.load("onnxruntime").load(one.SerializeToString(), threads=1).run(feed) for one in (made, before)
    )
    assert notes
    for mine, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [("fold-leading", "fold-preprocess"), ("fold-preprocess", "fold-leading")])
def test_a_raw_picture_goes_straight_into_the_first_weights(order):
    constants = {"m": np.array([0.4, 0.5, 0.6, 0.5]).reshape(4, 1, 1), "s": 51.0}
    model = headed([("Div", ["@", "s"], {}), ("Sub", ["@", "m"], {})], constants)
    samples = [{"x": np.random.default_rng(i).integers(0, 256, (6, 6, 4)).astype(np.uint8)} for i in range(4)]
    made, steps = model, (ToLayout(layout="NCHW"),)
    for name in order:
        context = passes.Context(samples, "image", steps)
        made, steps, _ = passes.load(name).apply(made, Step(use=name), context)
    assert operators(made) == ["Transpose", "Cast", "Conv"]
    raw = np.stack([sample["x"] for sample in samples])
    wanted = answer(model, raw.transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_allclose(answer(made, raw), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
