"""Models as scikit-learn's converter writes them, in operators that every runtime has."""

import numpy as np
import onnx
import pytest
from onnx import helper

from edgeward.infer import runtimes
from edgeward.optimize import exporters, passes
from edgeward.records.candidate import Step

ML = "ai.onnx.ml"
GENERATOR = np.random.default_rng(5)
CLASSIFIER = {
    "coefficients": [float(value) for value in GENERATOR.normal(size=12)], "intercepts": [0.1, -0.2, 0.3],
}  # fmt: skip


def model_of(nodes, outputs, initializers=()):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs], list(initializers),
    )  # fmt: skip
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)], ir_version=8
    )


def scaled():
    values = {"offset": [0.1, 0.2, 0.3, 0.4], "scale": [1.0, 2.0, 0.5, 3.0]}
    return helper.make_node("Scaler", ["x"], ["s"], domain=ML, **values)


def logistic_regression(**labels):
    kind = onnx.TensorProto.INT64 if "classlabels_ints" in labels else onnx.TensorProto.STRING
    nodes = [
        scaled(),
        helper.make_node("LinearClassifier", ["s"], ["label", "raw"], domain=ML, post_transform="SOFTMAX",
                         **CLASSIFIER, **labels),
        helper.make_node("Normalizer", ["raw"], ["p"], domain=ML, norm="L1"),
    ]  # fmt: skip
    return model_of(nodes, [("label", kind, [None]), ("p", onnx.TensorProto.FLOAT, [None, 3])])


def network_with_a_class_of_its_own():
    weights = onnx.numpy_helper.from_array(GENERATOR.normal(size=(4, 3)).astype(np.float32), "w")
    classes = onnx.numpy_helper.from_array(np.int32([10, 20, 35]), "classes")
    shape = onnx.numpy_helper.from_array(np.int64([-1]), "shape")
    nodes = [
        scaled(),
        helper.make_node("MatMul", ["s", "w"], ["m"]),
        helper.make_node("ArgMax", ["m"], ["place"], axis=1),
        helper.make_node("ArrayFeatureExtractor", ["classes", "place"], ["found"], domain=ML),
        helper.make_node("Reshape", ["found", "shape"], ["row"]),
        helper.make_node("Cast", ["row"], ["label"], to=onnx.TensorProto.INT64),
    ]
    outputs = [("label", onnx.TensorProto.INT64, [None]), ("m", onnx.TensorProto.FLOAT, [None, 3])]
    return model_of(nodes, outputs, [weights, classes, shape])


def regression():
    node = helper.make_node("LinearRegressor", ["s"], ["y"], domain=ML, coefficients=[1.0, -2.0, 0.5, 3.0],
                            intercepts=[0.25])  # fmt: skip
    return model_of([scaled(), node], [("y", onnx.TensorProto.FLOAT, [None, 1])])


MODELS = {
    "logistic-regression": lambda: logistic_regression(classlabels_ints=[10, 20, 35]),
    "network": network_with_a_class_of_its_own,
    "regression": regression,
}


def simplified(model):
    return passes.load("simplify").apply(model, Step(use="simplify"), passes.Context([], "tensor", ())).model


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
def test_a_linear_pipeline_answers_the_same_in_plain_operators_and_in_litert(make):
    model = make()
    simple = simplified(model)
    assert {node.domain for node in simple.graph.node} == {""}
    plain = runtimes.load("onnxruntime")
    before = plain.load(model.SerializeToString(), threads=1)
    after = plain.load(simple.SerializeToString(), threads=1)
    light = runtimes.load("litert").load(exporters.load("litert").export(simple).data, threads=1)
    for row in GENERATOR.normal(size=(20, 1, 4)).astype(np.float32):
        expected = before.run({"x": row})
        for session in (after, light):
            for want, got in zip(expected, session.run({"x": row}), strict=True):
                assert got.dtype == want.dtype
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_operators_are_written_for_a_model_that_states_no_opset_but_that_of_its_own_domain():
    model = logistic_regression(classlabels_ints=[10, 20, 35])
    del model.opset_import[0]
    stated = {entry.domain for entry in simplified(model).opset_import}
    assert stated == {""}


def test_a_classifier_that_names_its_classes_in_text_stays_as_it_is():
    model = logistic_regression(classlabels_strings=["sit", "walk", "run"])
    kinds = [node.op_type for node in simplified(model).graph.node]
    assert "LinearClassifier" in kinds
