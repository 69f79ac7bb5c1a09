"""Every way to find the ranges of activations gives a model that answers nearly as the float one."""

import numpy as np
import onnxruntime
import pytest
from graph_models import conv_net

from edgeward.kit.errors import WrongInput
from edgeward.optimize import passes
from edgeward.records.candidate import Step


def quantised(samples, **options):
    step = Step(use="quantize-static", options=options)
    return passes.load("quantize-static").apply(conv_net(), step, passes.Context(samples, "tensor", ())).model


def answers(model, samples):
    """As the graph is written, not fused: integer kernels of a CPU without int8 dot products saturate."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.concatenate([session.run(None, {"x": sample["x"][None]})[0] for sample in samples])


def samples_of(count, seed):
    generator = np.random.default_rng(seed)
    return [{"x": generator.normal(size=(3, 8, 8)).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_each_method_answers_nearly_as_the_float_model(method, activations):
    model = quantised(samples_of(40, 0), method=method, activations=activations)
    wanted = answers(conv_net(), samples_of(20, 1))
    assert np.abs(answers(model, samples_of(20, 1)) - wanted).max() < 0.1 * np.abs(wanted).max()


def test_mse_clips_the_one_wild_value_that_minmax_makes_room_for():
    samples = samples_of(40, 0)
    samples[3]["x"][0, 0, 0] = 25.0
    fresh = samples_of(40, 1)
    wanted = answers(conv_net(), fresh)
    errors = {
        method: float(np.square(answers(quantised(samples, method=method), fresh) - wanted).mean())
        for method in ("minmax", "mse")
    }
    assert errors["mse"] < errors["minmax"]


def test_a_method_that_does_not_exist_is_told():
    with pytest.raises(WrongInput, match="no method 'guess'"):
        quantised(samples_of(4, 0), method="guess")
