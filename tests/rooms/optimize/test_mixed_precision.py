"""Layers that stay in float inside a quantised graph."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_models import residual_net, samples_of

from edgeward.infer import Predictor, runtimes
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.optimize import passes
from edgeward.optimize.named_layers import around, with_names
from edgeward.optimize.sensitivity import layer_noise
from edgeward.records.candidate import Step

LAYERS = ("conv0", "conv1", "conv2", "conv3", "conv4", "gemm")
ROUNDING = ("QuantizeLinear", "DequantizeLinear")


def quantised(model, keep_float="", **options):
    # Weights of seven bits: a CPU without int8 dot products saturates with eight.
    step = Step(use="quantize-static", options={"keep_float": keep_float, "reduce_range": True, **options})
    return passes.load("quantize-static").apply(model, step, passes.Context(samples_of(), "tensor", ())).model


def answers(model, samples):
    session = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)
    return np.concatenate([batch[0] for batch in Predictor(session).outputs_of(samples)])


def float_layers(model):
    """The layers whose weights are not dequantised bytes."""
    made = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {node.name for node in model.graph.node if node.name in LAYERS and node.input[1] not in made}


def rounded(model):
    return sum(node.op_type == "QuantizeLinear" for node in model.graph.node)


@settings(max_examples=25, deadline=None)
@given(kept=st.sets(st.sampled_from(LAYERS), max_size=len(LAYERS) - 1), scope=st.sampled_from(["all", "heavy"]))
def test_the_layers_named_stay_in_float_and_no_others(kept, scope):
    model = quantised(residual_net(), ",".join(sorted(kept)), scope=scope)
    assert float_layers(model) == kept
    fresh = samples_of(16, seed=2)
    before, after = answers(residual_net(), fresh), answers(model, fresh)
    assert np.abs(after - before).max() < 0.1 * np.abs(before).max()


@settings(max_examples=25, deadline=None)
@given(kept=st.sets(st.sampled_from(LAYERS), min_size=1, max_size=len(LAYERS) - 1))
def test_between_two_float_layers_nothing_is_rounded(kept):
    model = quantised(residual_net(), ",".join(sorted(kept)))
    makers = {name: node for node in model.graph.node for name in node.output}
    readers = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for there in (node for node in model.graph.node if node.op_type == "QuantizeLinear"):
        backs = readers[there.output[0]]
        served = {user.name for back in backs for name in back.output for user in readers.get(name, ())}
        maker = makers.get(there.input[0])
        source_is_int8 = maker is not None and maker.input[0] in makers and maker.name not in kept
        assert source_is_int8 or served - kept, f"{there.name} serves no integer layer"


def test_all_but_the_last_layer_in_float_rounds_only_around_the_last():
    assert rounded(quantised(residual_net(), "conv0,conv1,conv2,conv3,conv4")) == 2
    assert rounded(quantised(residual_net())) > 8


def test_layers_without_names_go_by_what_they_make():
    model = quantised(residual_net(named=False), "c0,y")
    assert rounded(model) < rounded(quantised(residual_net(named=False)))
    in_float = {node.name for node in model.graph.node if set(node.input) & {"w0", "w1", "w2", "w3", "w4", "wg"}}
    assert in_float == {"c0", "y"}


def test_a_layer_that_is_not_there_is_wrong_input_and_names_some_that_are():
    with pytest.raises(WrongInput, match="no layer 'convx'; there are conv0, conv1"):
        quantised(residual_net(), "conv1,convx")


def test_all_layers_in_float_is_no_quantised_model():
    with pytest.raises(Unsupported, match="nothing is left to quantise"):
        quantised(residual_net(), ",".join(LAYERS))


def test_one_unbearable_layer_kept_in_float_brings_the_answers_back():
    model, fresh = residual_net(unequal=3000), samples_of(64, seed=2)
    before = answers(model, fresh)

    def error(keep_float):
        return float(np.square(answers(quantised(model, keep_float), fresh) - before).mean())

    assert error("conv0,conv1") < error("") / 50


def stay_float(kept):
    types = {node.op_type for node in residual_net().graph.node}
    return set(around(with_names(residual_net()), kept, types)) - set(LAYERS)


def test_what_stands_beside_a_float_layer_stays_in_float_up_to_the_next_layer():
    assert stay_float({"conv2"}) == {"s2", "r2", "p2", "s4", "r4", "g", "f"}, "the sum goes on to the second sum"
    assert stay_float({"gemm"}) == {"s2", "r2", "p2", "s4", "r4", "g", "f"}, "and comes from there"
    assert stay_float({"conv0"}) == {"r0"}
    assert stay_float(set()) == set()


def test_an_activation_right_behind_an_integer_layer_is_part_of_it():
    assert "r3" not in stay_float({"conv4"})
    assert "r3" in stay_float({"conv3"})


def test_the_noise_of_a_mixed_graph_is_that_of_its_integer_layers():
    model, samples = residual_net(), samples_of(64)
    noise = {layer.name: 10 ** (-layer.output_sqnr_db / 10) for layer in layer_noise(model, quantised(model), samples)}
    reference = answers(model, samples)
    for kept in (("gemm",), ("conv3", "conv4", "gemm"), ("conv0", "conv1", "conv2")):
        difference = answers(quantised(model, ",".join(kept)), samples) - reference
        found = float(np.square(difference).sum() / np.square(reference).sum())
        wanted = sum(share for name, share in noise.items() if name not in kept)
        assert 0.4 < found / wanted < 2.5, kept


def test_an_integer_layer_gives_floats_to_float_layers_where_the_runtime_can():
    model, fresh = residual_net(unequal=3000), samples_of(64, seed=2)
    before = answers(model, fresh)

    def error(**options):
        return float(np.square(answers(quantised(model, "conv1", **options), fresh) - before).mean())

    assert error(float_tail=True) < error() / 20
    graph = quantised(model, "conv1", float_tail=True).graph
    assert float_layers(quantised(model, "conv1", float_tail=True)) == {"conv1"}
    (relu,) = [node for node in graph.node if node.output[0] == "r0"]
    assert relu.op_type == "Relu", "what was merged into the rounding is back"


@settings(max_examples=25, deadline=None)
@given(kept=st.sets(st.sampled_from(LAYERS), max_size=len(LAYERS) - 1), scope=st.sampled_from(["all", "heavy"]))
def test_layers_that_give_floats_leave_the_answers_as_they_were(kept, scope):
    model = quantised(residual_net(), ",".join(sorted(kept)), scope=scope, float_tail=True)
    assert float_layers(model) == kept
    fresh = samples_of(16, seed=2)
    before = answers(residual_net(), fresh)
    assert np.abs(answers(model, fresh) - before).max() < 0.1 * np.abs(before).max()
