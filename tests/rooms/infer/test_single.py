"""The short way of one sample gives what the long one gives, in each runtime that has one."""

from contextlib import suppress

import numpy as np
import onnx
import pytest
from onnx import parser

from edgeward.infer import Predictor, runtimes
from edgeward.infer.preprocess import Preprocessor
from edgeward.kit.errors import WrongInput
from edgeward.optimize import exporters
from edgeward.records.model import CenterCrop, ColorOrder, Resize

TEXT = """
<ir_version: 8, opset_import: ["": 17]>
net (float[batch, 3, 4, 4] x) => (float[batch, 5] y, float[batch, 3, 4, 4] z)
<float[48, 5] w, int64[2] flat = {-1, 48}>
{ z = Relu(x)  f = Reshape(z, flat)  y = MatMul(f, w) }
"""


def net() -> onnx.ModelProto:
    model = parser.parse_model(TEXT.replace("float[48, 5] w, ", ""))
    weights = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return model


@pytest.fixture(params=["onnxruntime", "litert", "openvino"])
def session(request: pytest.FixtureRequest) -> runtimes.Session:
    runtime = runtimes.load(request.param)
    exported = exporters.load(runtime.formats[0]).export(net())
    return runtime.load(exported.data, threads=1)


def sample(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, 4, 4)).astype(np.float32)


def test_it_gives_what_the_session_gives(session):
    single = session.single
    assert (single.name, single.shape, single.dtype) == (session.inputs[0].name, (3, 4, 4), np.float32)
    for seed in range(3):
        expected = session.run({single.name: sample(seed)[None]})
        found = single.run(sample(seed))
        assert [value.shape for value in found] == [value.shape[1:] for value in expected]
        for value, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(value, wanted[0])


def test_an_answer_is_not_overwritten_by_the_next(session):
    first = session.single.run(sample(1))
    before = [value.copy() for value in first]
    session.single.run(sample(2))
    for value, wanted in zip(first, before, strict=True):
        np.testing.assert_array_equal(value, wanted)


def test_a_batch_in_between_changes_nothing(session):
    expected = session.single.run(sample())
    with suppress(WrongInput):  # exported for one sample
        session.run({session.single.name: np.stack([sample(5), sample(6)])})
    for value, wanted in zip(session.single.run(sample()), expected, strict=True):
        np.testing.assert_array_equal(value, wanted)


def test_a_predictor_takes_it_and_still_refuses_what_does_not_fit(session):
    predictor = Predictor(session)
    name = session.single.name
    answer = predictor.answer({name: sample()})
    np.testing.assert_array_equal(answer.outputs[session.outputs[0].name], session.single.run(sample())[0])
    np.testing.assert_array_equal(
        predictor.answer({name: sample().reshape(1, 3, 4, 4)}).outputs[session.outputs[0].name],
        answer.outputs[session.outputs[0].name],
    )
    with pytest.raises(WrongInput, match="wants 3x4x4"):
        predictor.answer({name: sample()[:2]})
    with pytest.raises(WrongInput, match="has no array"):
        predictor.answer({"other": sample()})


@pytest.mark.parametrize("text", ["float[batch, n] x) => (float[batch, n] y)", "float[2, 3] x) => (float[2, 3] y)"])
def test_models_that_are_not_for_one_sample_of_fixed_shape_have_none(text):
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> net ({text} {{ y = Relu(x) }}')
    for name in ("onnxruntime", "openvino"):
        assert runtimes.load(name).load(model.SerializeToString(), threads=1).single is None


@pytest.mark.parametrize(
    "steps",
    [
        (Resize(height=8, width=8),),
        (Resize(height=10, width=10), CenterCrop(height=8, width=8)),
        (Resize(height=8, width=8), ColorOrder(order="BGR")),
        (CenterCrop(height=8, width=8),),
    ],
)
def test_frames_of_any_size_in_any_order_are_prepared_as_the_steps_say(steps):
    text = '<ir_version: 8, opset_import: ["": 17]> same (uint8[n,8,8,3] x) => (uint8[n,8,8,3] y) { y = Identity (x) }'
    session = runtimes.load("onnxruntime").load(parser.parse_model(text).SerializeToString(), threads=1)
    predictor, prepare = Predictor(session, preprocess=steps), Preprocessor(steps)
    generator = np.random.default_rng(0)
    for height, width in [(8, 8), (8, 8), (9, 12), (8, 8), (12, 9), (8, 8)]:
        frame = generator.integers(0, 256, (height, width, 3), np.uint8)
        assert (predictor.answer({"x": frame}).outputs["y"] == prepare(frame)).all()
    with pytest.raises(WrongInput):
        predictor.answer({"x": np.zeros((8, 8, 3), np.float32)})
    with pytest.raises(WrongInput):
        predictor.answer({"x": np.zeros((8, 8), np.uint8)})
