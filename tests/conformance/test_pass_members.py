"""One suite over every pass: it leaves its input alone, and what it makes still runs."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import Predictor, runtimes
from edgeward.kit.errors import Unsupported
from edgeward.optimize import passes
from edgeward.records.candidate import Step
from edgeward.records.model import Normalize, ToLayout


@pytest.fixture
def model() -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    constants = {"w": generator.normal(size=(4, 3, 3, 3)), "b": generator.normal(size=4)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("name", passes.names())
def test_a_pass_leaves_its_input_alone_and_gives_a_model_that_runs_on_the_same_samples(name, model):
    samples = [{"x": np.random.default_rng(i).integers(0, 256, (8, 8, 3)).astype(np.uint8)} for i in range(8)]
    steps = (Normalize(), ToLayout(layout="NCHW"))
    before = model.SerializeToString(deterministic=True)
    try:
        made, left, notes = passes.load(name).apply(model, Step(use=name), passes.Context(samples, "image", steps))
    except Unsupported as error:
        pytest.skip(f"{name} has nothing to do here: {error.message}")
    assert model.SerializeToString(deterministic=True) == before
    assert all(isinstance(note, str) and note for note in notes)
    session = runtimes.load("onnxruntime").load(made.SerializeToString(), threads=1)
    reference = runtimes.load("onnxruntime").load(before, threads=1)
    for sample in samples:
        got = Predictor(session, preprocess=left).answer(sample).outputs["y"]
        wanted = Predictor(reference, preprocess=steps).answer(sample).outputs["y"]
        np.testing.assert_allclose(got, wanted, atol=0.05 * np.abs(wanted).max())
