"""Float16 in place of float32, but for what it cannot hold; inputs and outputs stay float32."""

import numpy as np
import pytest
from graph_models import conv_net
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import runtimes
from edgeward.kit.errors import WrongInput
from edgeward.optimize import exporters, passes
from edgeward.records.candidate import Step

SAMPLES = [{"x": np.random.default_rng(i).normal(size=(3, 8, 8)).astype(np.float32)} for i in range(8)]


def halved(model, samples=SAMPLES, **options):
    return passes.load("half").apply(model, Step(use="half", options=options), passes.Context(samples, "tensor", ()))


def answers(model, samples=SAMPLES, runtime="onnxruntime"):
    session = runtimes.load(runtime).load(model.SerializeToString(), threads=1)
    return np.concatenate([session.run({"x": sample["x"][None]})[0] for sample in samples])


def types_of(model):
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def with_weight(model, name, change):
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))
    return model


def with_tail(model):
    """One more dense layer, which sees small values only."""
    model.graph.node.append(helper.make_node("Gemm", ["y", "tw"], ["z"]))
    tail = np.random.default_rng(5).normal(size=(3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(tail, "tw"))
    model.graph.output[0].name = "z"
    return model


@pytest.mark.parametrize("compute", ["float32", "float16"])
@pytest.mark.parametrize("nhwc", [True, False])
def test_answers_move_by_the_rounding_alone_and_stay_float32(compute, nhwc):
    samples = [{"x": s["x"].transpose(1, 2, 0)} for s in SAMPLES] if nhwc else SAMPLES
    model = conv_net(nhwc=nhwc)
    made, _, notes = halved(model, samples, compute=compute)
    wanted, got = answers(model, samples), answers(made, samples)
    assert got.dtype == np.float32
    assert 0 < np.abs(got - wanted).max() < 0.01 * np.abs(wanted).max()
    assert "float16" in notes[0]
    assert made.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_stored_weights_take_half_the_room():
    model = conv_net(channels=64, size=4, kernel=7, pads=(3, 3, 3, 3))
    made, _, _ = halved(model)
    assert made.ByteSize() < 0.6 * model.ByteSize()


def test_weights_beyond_its_range_stay_float32():
    model = with_weight(conv_net(), "w", lambda w: w * np.float32(1e6))
    with pytest.raises(passes.DoesNotApply, match="could hold"):
        halved(model)
    model = with_tail(with_weight(model, "gw", lambda w: w * np.float32(1e-7)))
    made, _, notes = halved(model, compute="float16")
    np.testing.assert_allclose(answers(made), answers(model), atol=0.02 * np.abs(answers(model)).max())
    assert "stay float32" in notes[0]


def test_weights_so_small_that_they_would_vanish_stay_float32():
    with pytest.raises(passes.DoesNotApply, match="could hold"):
        halved(with_weight(conv_net(), "w", lambda w: w * np.float32(1e-9)))


def test_operators_that_meet_large_values_on_samples_stay_float32():
    samples = [{"x": sample["x"] * np.float32(1e6)} for sample in SAMPLES]
    model = with_tail(with_weight(conv_net(), "gw", lambda w: w * np.float32(1e-6)))
    made, _, notes = halved(model, samples, compute="float16")
    wanted = answers(model, samples)
    assert np.isfinite(answers(made, samples)).all()
    np.testing.assert_allclose(answers(made, samples), wanted, atol=0.02 * np.abs(wanted).max())
    assert "stay float32" in notes[0]


def quantised(**options):
    context, step = passes.Context(SAMPLES, "tensor", ()), Step(use="quantize-static", options=options)
    return passes.load("quantize-static").apply(conv_net(channels=3, kernel=5, pads=(2,) * 4), step, context).model


def test_a_quantised_model_stays_as_it_is():
    made = quantised()
    same, _, notes = halved(made)
    assert same.SerializeToString() == made.SerializeToString()
    assert notes == ()
    with pytest.raises(passes.DoesNotApply, match="eight bits"):
        halved(made, compute="float16")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "litert"])
def test_what_a_quantised_model_has_left_in_float_takes_half_the_room(runtime):
    made = quantised(keep_float="conv", per_channel=True)
    small, _, notes = halved(made)
    assert notes == ("1 weights are stored in float16",)
    files = [exporters.load(runtimes.load(runtime).formats[0]).export(model).data for model in (made, small)]
    weights = 4 * 3 * 5 * 5
    assert len(files[0]) - len(files[1]) > 1.3 * weights, "two bytes each, less what says so"
    first, second = (
        [runtimes.load(runtime).load(data, threads=1).run({"x": sample["x"][None]})[0] for sample in SAMPLES]
        for data in files
    )
    assert np.abs(np.subtract(first, second)).max() < 0.02 * np.abs(first).max()


def test_weights_take_half_the_room_in_a_litert_file_too():
    model = conv_net(channels=16, size=8, kernel=5, pads=(2,) * 4)
    samples = [{"x": np.random.default_rng(i).normal(size=(16, 8, 8)).astype(np.float32)} for i in range(8)]
    made, _, _ = halved(model, samples)
    whole, small = (exporters.load("litert").export(one).data for one in (model, made))
    assert len(whole) - len(small) > 1.8 * 4 * 16 * 5 * 5
    session = runtimes.load("litert").load(small, threads=1)
    got = np.concatenate([session.run({"x": sample["x"][None]})[0] for sample in samples])
    np.testing.assert_allclose(got, answers(made, samples), rtol=1e-5, atol=1e-5)


def test_other_types_are_told():
    with pytest.raises(WrongInput, match="'bfloat16'"):
        halved(conv_net(), compute="bfloat16")


def test_two_inputs_and_integers_pass_through():
    nodes = [
        helper.make_node("Gather", ["table", "i"], ["g"]),
        helper.make_node("Add", ["g", "x"], ["s"]),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 8]),
         helper.make_tensor_value_info("i", TensorProto.INT64, ["b"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 8])],
        [numpy_helper.from_array(np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32), "table"),
         numpy_helper.from_array(np.eye(8, dtype=np.float32), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    samples = [{"x": np.ones(8, np.float32), "i": np.array(3)}]
    for compute in ("float32", "float16"):
        made, _, _ = halved(model, samples, compute=compute)
        feeds = {"x": np.ones((1, 8), np.float32), "i": np.array([3])}
        ours, wanted = (
            runtimes.load("onnxruntime").load(one.SerializeToString(), threads=1).run(feeds)[0] for one in (made, model)
        )
        np.testing.assert_allclose(ours, wanted, atol=0.01)


@pytest.mark.parametrize("compute", ["float32", "float16"])
def test_constants_that_old_files_list_among_the_inputs_are_constants(compute):
    model = conv_net()
    wanted = answers(model)
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims))
        for tensor in model.graph.initializer
    )
    model.ir_version = 3
    made, _, _ = halved(model, compute=compute)
    assert len(made.graph.input) == 1
    np.testing.assert_allclose(answers(made), wanted, atol=0.01 * np.abs(wanted).max())
