"""How much noise int8 adds, layer by layer."""

import math

import numpy as np
import onnx
import pytest
from graph_models import conv_net, dense_net
from hypothesis import given
from hypothesis import strategies as st
from mixed_models import residual_net, samples_of
from onnx import helper

from edgeward.infer import Predictor, runtimes
from edgeward.kit.errors import Unsupported
from edgeward.optimize import passes
from edgeward.optimize.sensitivity import decibels, layer_noise
from edgeward.records.candidate import Step
from edgeward.records.model import ToLayout

LAYERS = ("conv0", "conv1", "conv2", "conv3", "conv4", "gemm")


def quantised(model, samples, **options):
    # Weights of seven bits: a CPU without int8 dot products saturates with eight.
    step = Step(use="quantize-static", options={"reduce_range": True, **options})
    return passes.load("quantize-static").apply(model, step, passes.Context(samples, "tensor", ())).model


def answers(model, samples):
    session = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)
    return np.concatenate([batch[0] for batch in Predictor(session).outputs_of(samples)]).astype(np.float64)


def with_fixed_batch(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return copy


def with_softmax(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.node.append(helper.make_node("Softmax", ["y"], ["z"]))
    copy.graph.output[0].name = "z"
    return copy


@given(st.floats(1e-6, 1e6), st.floats(1e-3, 1e3))
def test_ten_decibels_are_a_tenth_of_the_noise(signal, noise):
    assert decibels(signal, noise / 10) == pytest.approx(decibels(signal, noise) + 10, abs=1e-6)


def test_decibels_stay_finite_without_noise_or_without_signal():
    assert [decibels(1.0, 0.0), decibels(0.0, 1.0), decibels(0.0, 0.0)] == [120, -120, 120]
    assert decibels(1.0, math.nan) == -120


def test_every_layer_is_told_in_the_order_of_the_graph():
    samples = samples_of()
    found = layer_noise(residual_net(), quantised(residual_net(), samples), samples)
    assert [(layer.name, layer.op) for layer in found] == [(n, "Gemm" if n == "gemm" else "Conv") for n in LAYERS]
    assert all(20 < layer.sqnr_db < 60 and 20 < layer.output_sqnr_db < 80 for layer in found)


def test_the_noise_of_a_lone_layer_is_that_of_the_whole_quantised_model():
    model, samples = dense_net(), [{"x": np.random.default_rng(i).normal(size=6).astype(np.float32)} for i in range(32)]
    int8 = quantised(model, samples)
    before, after = answers(model, samples), answers(int8, samples)
    wanted = 10 * math.log10(np.square(before).sum() / np.square(before - after).sum())
    (layer,) = layer_noise(model, int8, samples)
    assert layer.sqnr_db == pytest.approx(wanted, abs=0.05)
    assert layer.output_sqnr_db == pytest.approx(wanted, abs=0.05)


def test_the_layer_whose_channels_are_unequal_does_the_most_harm_to_the_answers():
    model, samples = residual_net(unequal=3000), samples_of()
    found = {layer.name: layer for layer in layer_noise(model, quantised(model, samples), samples)}
    worst = sorted(LAYERS, key=lambda name: found[name].output_sqnr_db)[:2]
    assert set(worst) == {"conv0", "conv1"}
    assert found["conv0"].output_sqnr_db < found["conv4"].output_sqnr_db - 15


def test_layers_that_stayed_in_float_are_not_told():
    model, samples = residual_net(), samples_of()
    found = layer_noise(model, quantised(model, samples, keep_float="conv0,conv3"), samples)
    assert [layer.name for layer in found] == ["conv1", "conv2", "conv4", "gemm"]


def test_a_softmax_at_the_end_hides_nothing():
    model, samples = residual_net(), samples_of()
    plain = layer_noise(model, quantised(model, samples), samples)
    squashed = with_softmax(model)
    for one, other in zip(plain, layer_noise(squashed, quantised(squashed, samples), samples), strict=True):
        assert other.output_sqnr_db == pytest.approx(one.output_sqnr_db, abs=1.0)


def test_a_model_that_takes_one_sample_at_a_time_gives_the_same_figures():
    samples = samples_of(16)
    free = layer_noise(residual_net(), quantised(residual_net(), samples), samples)
    fixed_model = with_fixed_batch(residual_net())
    fixed = layer_noise(fixed_model, quantised(fixed_model, samples), samples)
    for one, other in zip(free, fixed, strict=True):
        assert other.sqnr_db == pytest.approx(one.sqnr_db, abs=0.1)


def test_without_time_the_effect_on_the_answers_is_told_for_the_noisiest_layer_alone():
    samples = samples_of()
    found = layer_noise(residual_net(), quantised(residual_net(), samples), samples, seconds=0)
    told = [layer.name for layer in found if layer.output_sqnr_db is not None]
    assert told == [min(found, key=lambda layer: layer.sqnr_db).name]


def test_a_dead_layer_has_no_noise_and_stops_nothing():
    model = residual_net()
    for tensor in model.graph.initializer:
        if tensor.name in ("w3", "b3"):
            zeros = onnx.numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32), tensor.name)
            tensor.CopyFrom(zeros)
    samples = samples_of()
    found = {layer.name: layer for layer in layer_noise(model, quantised(model, samples), samples)}
    assert found["conv3"].sqnr_db == 120
    assert found["conv0"].sqnr_db < 60


def test_raw_bytes_that_enter_as_they_are_cost_nothing_to_compare():
    generator = np.random.default_rng(0)
    samples = [{"x": generator.integers(0, 256, (8, 8, 3)).astype(np.uint8)} for _ in range(16)]
    steps = passes.Context(samples, "image", (ToLayout(layout="NCHW"),))
    folded = passes.load("fold-preprocess").apply(conv_net(), Step(use="fold-preprocess"), steps)
    context = steps._replace(preprocess=folded.preprocess)
    step = Step(use="quantize-static", options={"reduce_range": True})
    int8 = passes.load("quantize-static").apply(folded.model, step, context).model
    found = layer_noise(folded.model, int8, samples)
    assert [layer.op for layer in found] == ["Conv", "Gemm"]


def test_two_graphs_that_share_no_layer_are_refused():
    samples = samples_of()
    with pytest.raises(Unsupported, match="no quantised layer"):
        layer_noise(residual_net(), residual_net(), samples)
    with pytest.raises(Unsupported, match="no quantised layer"):
        layer_noise(residual_net(), quantised(residual_net(), samples), [])
