"""Weights of matrix products in eight or four bits: nearly the same answers from a smaller file."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import runtimes
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.optimize import exporters, passes
from edgeward.optimize.inspect import precision_of
from edgeward.optimize.passes.quantize_weights import blocks_of
from edgeward.records.candidate import Step


def dense_net(*, features=64, opset=17, transposed=False, with_bias=True):
    """MatMul and Add, Relu, Gemm."""
    generator = np.random.default_rng(0)
    second = generator.normal(size=(64, 32)) / 8
    constants = {
        "w1": generator.normal(size=(features, 64)) / 8, "b1": generator.normal(size=64),
        "w2": second.T if transposed else second, "b2": generator.normal(size=32),
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["product"]),
        helper.make_node("Add", ["product", "b1"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", *(["b2"] if with_bias else [])], ["y"], transB=int(transposed)),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def quantised(model, **options):
    step = Step(use="quantize-weights", options=options)
    return passes.load("quantize-weights").apply(model, step, passes.Context((), "tensor", ()))


def answer(model, features=64, runtime="onnxruntime"):
    value = np.random.default_rng(1).normal(size=(4, features)).astype(np.float32)
    return runtimes.load(runtime).load(model.SerializeToString(), threads=1).run({"x": value})[0]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("options", "allowed"), [({}, 0.03), ({"bits": 4}, 0.2), ({"bits": 4, "block": 16}, 0.2)])
def test_answers_stay_near(runtime, transposed, with_bias, options, allowed):
    try:
        runtimes.load(runtime)
    except Unsupported as error:
        pytest.skip(f"{runtime}: {error.message}")
    model = dense_net(transposed=transposed, with_bias=with_bias)
    made, _, notes = quantised(model, **options)
    onnx.checker.check_model(made)
    wanted = answer(model)
    assert np.abs(answer(made, runtime=runtime) - wanted).max() < allowed * np.abs(wanted).max()
    assert notes == (f"int{options.get('bits', 8)} weights in 2 matrix products",)
    assert precision_of(made) == f"int{options.get('bits', 8)}"


def test_four_bits_take_a_fifth_of_the_room():
    model = dense_net()
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer if tensor.name.startswith("w"))
    made, _, _ = quantised(model, bits=4)
    assert made.ByteSize() < 0.2 * weights + 2000


def test_a_product_whose_inputs_come_in_no_blocks_gets_eight_bits():
    made, _, notes = quantised(dense_net(features=40), bits=4)
    assert notes == ("int4 weights in 1 matrix products", "int8 weights in 1 matrix products")
    assert answer(made, features=40).shape == (4, 32)


def test_a_scale_that_clips_is_taken_where_that_loses_less():
    weights = np.random.default_rng(0).normal(size=(64, 8))
    stored, scale = blocks_of(weights, 32)
    assert stored.min() >= -8
    assert stored.max() <= 7
    plain = np.abs(weights.reshape(2, 32, 8)).max(axis=1) / 7
    errors = [
        np.square(
            np.clip(np.rint(weights.reshape(2, 32, 8) / s[:, None]), -8, 7) * s[:, None] - weights.reshape(2, 32, 8)
        )
        for s in (plain, scale)
    ]
    assert errors[1].sum() <= errors[0].sum()


def test_weights_of_zeros_stay_zeros():
    stored, scale = blocks_of(np.zeros((32, 4)), 32)
    assert not stored.any()
    assert np.isfinite(scale).all()


def test_litert_says_that_it_has_no_blocks():
    with pytest.raises(Unsupported, match="each block"):
        exporters.load("litert").export(quantised(dense_net(), bits=4).model)


@pytest.mark.parametrize("options", [{"bits": 3}, {"bits": 4, "block": 7}])
def test_other_widths_are_told(options):
    with pytest.raises(WrongInput, match="wanted 4 or 8"):
        quantised(dense_net(), **options)


def test_a_model_without_products_or_without_blocks_is_none_for_it():
    with pytest.raises(passes.DoesNotApply):
        quantised(dense_net(), bits=4, block=128)
    bare = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])], "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        ), opset_imports=[helper.make_opsetid("", 17)],
    )  # fmt: skip
    with pytest.raises(passes.DoesNotApply):
        quantised(bare)
