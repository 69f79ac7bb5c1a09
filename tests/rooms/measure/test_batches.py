"""Samples are answered in batches as they would be alone, whatever a model's batch axis says."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import Predictor, runtimes
from edgeward.kit.errors import WrongInput

pytest.importorskip("onnxruntime")
SAMPLES = [{"x": row} for row in np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32)]


def predictor(nodes, batch, *, kind=TensorProto.FLOAT, out=TensorProto.FLOAT, constants=()) -> Predictor:
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", kind, [batch, 4])], [helper.make_tensor_value_info("y", out, None)],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Predictor(runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1))


def double(batch: int | str) -> Predictor:
    return predictor([helper.make_node("Add", ["x", "x"], ["y"])], batch)


def whole(model: Predictor) -> np.ndarray:
    return np.concatenate([group[0] for group in model.outputs_of(SAMPLES, batch=4)])


@pytest.mark.parametrize("batch", ["n", 1, 3, 32])
def test_every_batch_size_gives_the_answers_of_single_samples(batch):
    model = double(batch)
    wanted = np.stack([sample["x"] * 2 for sample in SAMPLES])
    assert (whole(model) == wanted).all()
    assert (np.stack([model.answer(sample).outputs["y"] for sample in SAMPLES]) == wanted).all()


def test_a_free_batch_is_used():
    assert [len(group[0]) for group in double("n").outputs_of(SAMPLES, batch=4)] == [4, 4, 3]


def test_a_model_that_mixes_its_samples_is_fed_one_by_one():
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Div", ["x", "most"], ["y"]),
    ]
    model = predictor(nodes, "n")
    alone = np.stack([sample["x"] / sample["x"].max() for sample in SAMPLES])
    np.testing.assert_array_equal(whole(model), alone)


def test_dynamic_int8_takes_its_range_from_one_sample():
    weights = numpy_helper.from_array(np.arange(-8, 8, dtype=np.int8).reshape(4, 4), "w")
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["y"]),
    ]
    model = predictor(nodes, "n", constants=[weights])
    np.testing.assert_array_equal(whole(model), np.stack([model.answer(sample).outputs["y"] for sample in SAMPLES]))


def test_a_free_batch_that_is_one_in_truth_is_fed_one_by_one():
    shape = numpy_helper.from_array(np.array([1, 2, 2]), "shape")
    model = predictor([helper.make_node("Reshape", ["x", "shape"], ["y"])], "n", constants=[shape])
    assert whole(model).shape == (11, 2, 2)


def test_strings_go_in_as_they_are():
    model = predictor(
        [helper.make_node("Identity", ["x"], ["y"])], "n", kind=TensorProto.STRING, out=TensorProto.STRING
    )
    words = np.array(["a", "bc", "d", "é"])
    assert model.answer({"x": words}).outputs["y"].tolist() == words.tolist()
    assert next(model.outputs_of([{"x": words}] * 2))[0].tolist() == [words.tolist()] * 2
    with pytest.raises(WrongInput, match="string"):
        model.answer({"x": np.zeros(4, np.float32)})
