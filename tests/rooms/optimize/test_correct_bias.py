"""The mean error of rounded layers goes into their biases, where that is proved to help."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import runtimes
from edgeward.optimize import passes
from edgeward.records.candidate import Step


def uneven_net(*, with_bias=True, layers=3, seed=0):
    """Convolutions whose channels reach unlike far: one scale for a tensor of weights rounds most to nothing."""
    generator = np.random.default_rng(seed)
    nodes, constants, value, channels = [], {}, "x", 3
    for layer in range(layers):
        uneven = np.where(np.arange(8) == layer, 1.0, 0.03).reshape(8, 1, 1, 1)
        constants[f"w{layer}"] = generator.uniform(0, 1, (8, channels, 3, 3)) * uneven
        if with_bias:
            constants[f"b{layer}"] = generator.normal(size=8) * 0.1
        names = [value, f"w{layer}", *([f"b{layer}"] if with_bias else [])]
        nodes += [
            helper.make_node("Conv", names, [f"c{layer}"], pads=[1, 1, 1, 1], name=f"conv{layer}"),
            helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"], name=f"relu{layer}"),
        ]
        value, channels = f"r{layer}", 8
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["y"], name="flat"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def samples_of(count, seed=0):
    generator = np.random.default_rng(seed)
    return [{"x": generator.uniform(0, 1, (3, 8, 8)).astype(np.float32)} for _ in range(count)]


def quantised(model, samples, **options):
    step = Step(use="quantize-static", options={"per_channel": False, **options})
    return passes.load("quantize-static").apply(model, step, passes.Context(samples, "tensor", ())).model


def corrected(model, samples, unquantised):
    context = passes.Context(samples, "tensor", (), unquantised=unquantised)
    return passes.load("correct-bias").apply(model, Step(use="correct-bias"), context)


def answers(model, samples):
    session = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)
    return np.concatenate([session.run({"x": sample["x"][None]})[0] for sample in samples])


@pytest.mark.parametrize("with_bias", [True, False])
def test_answers_to_samples_it_never_saw_come_nearer_to_the_float_models(with_bias):
    model, samples, fresh = uneven_net(with_bias=with_bias), samples_of(64), samples_of(50, seed=9)
    rounded = quantised(model, samples)
    before = rounded.SerializeToString(deterministic=True)
    made, _, notes = corrected(rounded, samples, model)
    wanted = answers(model, fresh)
    errors = [float(np.square(answers(one, fresh) - wanted).mean()) for one in (rounded, made)]
    assert errors[1] < 0.75 * errors[0]
    assert "3 layers" in notes[0]
    assert rounded.SerializeToString(deterministic=True) == before
    assert len(made.graph.node) == len(rounded.graph.node) + (0 if with_bias else 3)


def test_biases_stay_in_32_bits_with_the_scale_that_integer_kernels_want():
    model, samples = uneven_net(with_bias=False), samples_of(64)
    made, _, _ = corrected(quantised(model, samples), samples, model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    makers = {node.output[0]: node for node in made.graph.node}
    for conv in (node for node in made.graph.node if node.op_type == "Conv"):
        scales = [constants[makers[name].input[1]] for name in conv.input]
        assert constants[makers[conv.input[2]].input[0]].dtype == np.int32
        np.testing.assert_allclose(scales[2], scales[0] * scales[1], rtol=1e-6)


def test_it_steps_aside_where_nothing_was_quantised_or_nothing_would_be_gained():
    model, samples = uneven_net(), samples_of(64)
    with pytest.raises(passes.DoesNotApply, match="nothing was quantised"):
        corrected(model, samples, None)
    with pytest.raises(passes.DoesNotApply, match="0 of its layers"):
        corrected(model, samples, model)
    with pytest.raises(passes.DoesNotApply, match="too few"):
        corrected(quantised(model, samples), samples[:3], model)
    once, _, _ = corrected(quantised(model, samples), samples, model)
    with pytest.raises(passes.DoesNotApply, match="beyond chance"):
        corrected(once, samples, model)
