"""The last bias is fitted to labels only where samples that it was not fitted to prove the gain."""

import numpy as np
import onnx
import pytest

from edgeward.optimize import passes
from edgeward.records.candidate import Step

CLASSES, SAMPLES = 3, 300


def _model() -> onnx.ModelProto:
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[n,3] x) => (float[n,3] y) '
        "<float[3,3] w = {1,0,0, 0,1,0, 0,0,1}, float[3] b = {0,0,0}> { s = Gemm(x, w, b) y = Softmax(s) }"
    )
    return onnx.parser.parse_model(text)


def _context(labels: np.ndarray | None, shift: float) -> passes.Context:
    """Scores that name the right class, but for a constant error of the first one."""
    generator = np.random.default_rng(0)
    known = np.arange(SAMPLES) % CLASSES
    scores = np.eye(CLASSES)[known] * 2 + generator.normal(size=(SAMPLES, CLASSES)) * 0.5
    scores[:, 0] += shift
    samples = [{"x": row} for row in scores.astype(np.float32)]
    return passes.Context(samples, "tensor", (), 0, known if labels is None else labels)


def _refit(context: passes.Context) -> passes.Passed:
    return passes.load("refit-bias").apply(_model(), Step(use="refit-bias"), context)


def test_a_constant_error_of_a_class_is_taken_back():
    passed = _refit(_context(None, 3.0))
    bias = next(onnx.numpy_helper.to_array(t) for t in passed.model.graph.initializer if t.name == "b")
    assert bias[0] - bias[1:].mean() == pytest.approx(-3.0, abs=1.0)
    assert "right instead of" in passed.notes[0]


def test_a_model_that_is_right_already_is_left_alone():
    with pytest.raises(passes.DoesNotApply, match="beyond chance"):
        _refit(_context(None, 0.0))


def test_labels_that_say_nothing_prove_nothing():
    labels = np.random.default_rng(3).integers(0, CLASSES, SAMPLES)
    with pytest.raises(passes.DoesNotApply):
        _refit(_context(labels, 0.0))


def test_without_labels_there_is_nothing_to_fit():
    context = _context(None, 3.0)._replace(labels=None)
    with pytest.raises(passes.DoesNotApply, match="labels"):
        _refit(context)


def test_a_model_without_a_last_bias_is_left_alone():
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[n,3] x) => (float[n,3] y) { y = Softmax(x) }'
    with pytest.raises(passes.DoesNotApply, match="dense layer"):
        passes.load("refit-bias").apply(onnx.parser.parse_model(text), Step(use="refit-bias"), _context(None, 3.0))
