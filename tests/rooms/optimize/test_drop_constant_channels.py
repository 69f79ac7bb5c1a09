"""Channels that are always the same go, and the answers stay."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.optimize import passes
from edgeward.optimize.passes import DoesNotApply
from edgeward.records.candidate import Step

RANDOM = np.random.default_rng(3)
SAMPLES = [{"x": RANDOM.normal(size=(4, 8, 8)).astype(np.float32)} for _ in range(120)]
CONSTANT = (1, 5, 6, 7, 11, 13, 14, 15, 17, 20)
"""Ten of 24 channels: 14 are felt, 16 stay."""


def _normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def _model(nodes, weights, outputs=3, rank=4):
    """x through the nodes to y."""
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", outputs, *(["H", "W"] if rank == 4 else [])])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])


def _first(constant=CONSTANT, value=0.0):
    """A first layer of 24 channels, of which some give `value` whatever they see."""
    weight, bias = _normal(24, 4, 1, 1), _normal(24)
    weight[list(constant)] = 0
    bias[list(constant)] = value
    return {"w1": weight, "b1": bias}


def _bounded():
    """A Conv, ReLU6, a depthwise Conv, ReLU6 and a Conv: the inside of a MobileNet's block."""
    weights = {
        **_first(value=2.0), "low": np.float32(0), "high": np.float32(6), "w2": _normal(24, 1, 3, 3), "b2": _normal(24),
        "w3": _normal(3, 24, 1, 1),
    }  # fmt: skip
    for channel in CONSTANT:  # far below zero, or far above six, wherever they are looked at
        weights["w2"][channel] = 0
        weights["b2"][channel] = 9.0 if channel % 2 else -9.0
    return _model([
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="one"),
        helper.make_node("Clip", ["a", "low", "high"], ["b"]),
        helper.make_node("Conv", ["b", "w2", "b2"], ["c"], name="two", group=24, pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c", "low", "high"], ["d"]),
        helper.make_node("Conv", ["d", "w3"], ["y"], name="three"),
    ], weights)  # fmt: skip


def _flattened(operator):
    weights = {**_first(value=-1.0), "w2": _normal(24 * 16, 3), "b2": _normal(3), "shape": np.array([-1, 384])}
    flat = {"Flatten": ["c"], "Reshape": ["c", "shape"]}[operator]
    return _model([
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("AveragePool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node(operator, flat, ["d"]),
        helper.make_node("Gemm", ["d", "w2", "b2"], ["y"], name="two"),
    ], weights, rank=2)  # fmt: skip


def _padded(value):
    weights = {**_first(value=value), "w2": _normal(3, 24, 3, 3)}
    return _model([
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["y"], name="two", pads=[1, 1, 1, 1]),
    ], weights)  # fmt: skip


def _apply(model, samples=SAMPLES):
    onnx.checker.check_model(model)
    context = passes.Context(samples, "tensor", ())
    return passes.load("drop-constant-channels").apply(model, Step(use="drop-constant-channels"), context)


def _answers(model):
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.stack([sample["x"] for sample in SAMPLES])})[0]


def _weight_shapes(model):
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return [constants[node.input[1]] for node in model.graph.node if node.op_type in ("Conv", "Gemm")]


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        (_bounded(), [(16, 4, 1, 1), (16, 1, 3, 3), (3, 16, 1, 1)]),
        (_flattened("Flatten"), [(16, 4, 1, 1), (256, 3)]),
        (_flattened("Reshape"), [(16, 4, 1, 1), (256, 3)]),
        (_padded(-1.0), [(16, 4, 1, 1), (3, 16, 3, 3)]),
    ],
    ids=["inside a MobileNet's block", "laid flat", "reshaped by its number", "zeros beside zeros"],
)
def test_constant_channels_go_and_the_answers_stay(model, shapes):
    passed = _apply(model)
    assert _weight_shapes(passed.model) == shapes
    np.testing.assert_allclose(_answers(passed.model), _answers(model), rtol=1e-4, atol=1e-4)
    assert "8 channels hold the same value for all of 120 calibration samples" in passed.notes[0]


def test_a_constant_beside_padding_stays_since_it_is_none_at_the_border():
    with pytest.raises(DoesNotApply, match="not enough constant channels"):
        _apply(_padded(2.0))


def test_a_channel_that_one_sample_moves_stays():
    model = _padded(-1.0)
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[list(CONSTANT), 0] = 1.0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w1"))
    quiet = [
        {"x": np.where(np.arange(4)[:, None, None] == 0, -9, sample["x"]).astype(np.float32)} for sample in SAMPLES
    ]
    assert _apply(model, quiet)
    with pytest.raises(DoesNotApply):
        _apply(model, [*quiet[:-1], {"x": quiet[-1]["x"] + 20}])


@pytest.mark.parametrize("count", [0, 99])
def test_few_samples_do_not_tell(count):
    with pytest.raises(DoesNotApply, match=f"{count} samples are too few"):
        _apply(_bounded(), SAMPLES[:count])


def test_a_layer_that_others_read_too_stays_whole():
    weights = {**_first(value=-1.0), "w2": _normal(24, 24, 1, 1), "w3": _normal(3, 24, 1, 1)}
    model = _model([
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="two"),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("Conv", ["d", "w3"], ["y"], name="three"),
    ], weights)  # fmt: skip
    with pytest.raises(DoesNotApply, match="no two layers"):
        _apply(model)


def test_a_model_whose_channels_are_all_felt_is_left_alone():
    with pytest.raises(DoesNotApply, match="not enough constant channels"):
        _apply(_model(_bounded().graph.node, {
            **{t.name: numpy_helper.to_array(t) for t in _bounded().graph.initializer},
            **_first(constant=()), "w2": _normal(24, 1, 3, 3), "b2": np.zeros(24, np.float32),
        }))  # fmt: skip
