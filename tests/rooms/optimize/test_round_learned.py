"""Weights go to the grid point below or above, whichever serves the answers."""

from itertools import product

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import runtimes
from edgeward.kit.errors import WrongInput
from edgeward.optimize import passes
from edgeward.optimize.passes.round_learned import chosen
from edgeward.records.candidate import Step


def correlated(count, size, seed=0):
    generator = np.random.default_rng(seed)
    return (
        generator.normal(size=(count, 3)) @ generator.normal(size=(3, size))
        + generator.normal(size=(count, size)) * 0.1
    )


@pytest.mark.parametrize("seed", range(10))
def test_no_single_other_choice_is_better_and_few_choices_at_all_are(seed):
    generator = np.random.default_rng(seed)
    weight, scale = generator.normal(size=(1, 1, 8)), np.full((1, 1, 1), 0.4)
    rows = correlated(200, 8, seed)
    gram = (rows.T @ rows)[None]
    found = chosen(weight, scale, gram)

    def loss(values):
        gap = np.asarray(values) * 0.4 - weight[0, 0]
        return float(gap @ gram[0] @ gap)

    low = np.floor(weight[0, 0] / 0.4)
    losses = sorted(loss(low + np.array(up)) for up in product((0, 1), repeat=8))
    assert np.all(np.abs(found * 0.4 - weight) <= 0.4)
    assert loss(found[0, 0]) <= loss(np.rint(weight[0, 0] / 0.4))
    assert sum(one < loss(found[0, 0]) - 1e-9 for one in losses) <= 256 // 8
    for place in range(8):
        flipped = found[0, 0].copy()
        flipped[place] = low[place] + (1 - (flipped[place] - low[place]))
        assert loss(flipped) >= loss(found[0, 0]) - 1e-9


def net(group, *, seed=0):
    generator = np.random.default_rng(seed)
    constants = {
        "w1": generator.normal(size=(8, 4 // group, 3, 3)), "b1": generator.normal(size=8),
        "w2": generator.normal(size=(8, 6)), "w3": generator.normal(size=(5, 6)), "b3": generator.normal(size=5),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], pads=[1, 0, 1, 1], strides=[2, 1], group=group, name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "w2"], ["m"], name="product"),
        helper.make_node("Gemm", ["m", "w3", "b3"], ["y"], transB=1, name="dense"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def samples_of(count, seed=0):
    rows = correlated(count, 4 * 64, seed=3)[np.random.default_rng(seed).permutation(count)]
    return [{"x": row.reshape(4, 8, 8).astype(np.float32)} for row in rows]


def rounded(model, samples, **options):
    step = Step(use="round-learned", options=options)
    return passes.load("round-learned").apply(model, step, passes.Context(samples, "tensor", ()))


def answers(model, samples):
    session = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)
    return np.concatenate([session.run({"x": sample["x"][None]})[0] for sample in samples])


@pytest.mark.parametrize(("group", "per_channel"), [(1, True), (1, False), (2, True), (4, False)])
def test_in_four_bits_answers_come_nearer_than_by_rounding_to_the_nearest(group, per_channel):
    model, samples = net(group), samples_of(128)
    made, _, notes = rounded(model, samples[:100], bits=4, per_channel=per_channel)
    assert "rounded the other way" in notes[0]
    plain = net(group)
    for tensor in plain.graph.initializer:
        if tensor.name.startswith("w"):
            values = numpy_helper.to_array(tensor).astype(np.float64)
            turned = np.moveaxis(values, 1 if tensor.name == "w2" else 0, 0).reshape(
                values.shape[1 if tensor.name == "w2" else 0], -1
            )
            largest = np.abs(turned).max(axis=1) if per_channel else np.full(len(turned), np.abs(turned).max())
            shape = [1, -1] if tensor.name == "w2" else [-1, *[1] * (values.ndim - 1)]
            scale = largest.reshape(shape) / 7
            tensor.CopyFrom(numpy_helper.from_array((np.rint(values / scale) * scale).astype(np.float32), tensor.name))
    wanted = answers(model, samples[100:])
    errors = [np.square(answers(one, samples[100:]) - wanted).mean() for one in (plain, made)]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("reduce_range", [True, False])
def test_the_pass_that_quantises_finds_the_weights_on_its_grid(per_channel, reduce_range):
    model, samples = net(1), samples_of(128)
    options = {"per_channel": per_channel, "reduce_range": reduce_range}
    made, _, _ = rounded(model, samples, **options)
    context = passes.Context(samples, "tensor", ())
    quantised = passes.load("quantize-static").apply(made, Step(use="quantize-static", options=options), context).model
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantised.graph.initializer}
    makers = {node.output[0]: node for node in quantised.graph.node}
    ours = {node.name: node for node in made.graph.node}
    floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    for node in quantised.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            stored, scale = (constants[name] for name in makers[node.input[1]].input[:2])
            weight = floats[ours[node.name].input[1]]
            axis = next((a.i for a in makers[node.input[1]].attribute if a.name == "axis"), 0)
            shape = [-1 if place == axis else 1 for place in range(weight.ndim)] if scale.ndim else []
            np.testing.assert_allclose(stored * scale.reshape(shape), weight, atol=1e-3 * scale.max())


def test_bad_options_and_too_few_samples_are_told():
    with pytest.raises(WrongInput, match="bits is 16"):
        rounded(net(1), samples_of(32), bits=16)
    with pytest.raises(passes.DoesNotApply, match="too few"):
        rounded(net(1), samples_of(32)[:2])
