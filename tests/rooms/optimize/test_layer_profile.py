"""Where a whole model's time goes: every layer by the name it has in the float graph, whatever became of the file."""

import numpy as np
import onnx
import pytest
from graph_models import conv_net
from onnx import helper

from edgeward.infer import runtimes
from edgeward.kit.errors import EdgewardError, Unsupported
from edgeward.optimize import exporters, passes
from edgeward.optimize.layer_profile import profiled_layers, with_forecast
from edgeward.optimize.named_layers import with_names
from edgeward.records.candidate import Layer, Step

SAMPLES = [{"x": np.random.default_rng(index).normal(size=(3, 8, 8)).astype(np.float32)} for index in range(4)]
FEEDS = {"x": SAMPLES[0]["x"][None]}


def passed(model: onnx.ModelProto, *uses: str) -> onnx.ModelProto:
    """The model after these passes with their defaults."""
    for use in uses:
        options = {"activations": "uint8", "per_channel": True} if use == "quantize-static" else {}
        context = passes.Context(SAMPLES, "tensor", (), 0, None)
        model = passes.load(use).apply(model, Step(use=use, options=options), context).model
    return model


def graph() -> onnx.ModelProto:
    """What the names are taken from: the float graph as the forecast has it."""
    return with_names(passed(conv_net(), "simplify"))


def test_the_layers_of_the_model_as_given_have_their_names_and_shares() -> None:
    found = profiled_layers(conv_net().SerializeToString(), "onnxruntime", FEEDS, threads=1, graph=graph())
    assert {"conv", "gemm"} <= {layer.name for layer in found}
    assert sum(layer.share or 0 for layer in found) == pytest.approx(1, abs=0.01)
    assert all(layer.time_ms and layer.time_ms > 0 for layer in found)
    assert all(layer.placement.startswith("CPU") for layer in found)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_model_without_names_gets_those_of_the_float_graph_back(runtime: str) -> None:
    try:
        runtimes.load(runtime)
    except Unsupported as error:
        pytest.skip(f"{error.message}: {error.hint}")
    stripped = passed(conv_net(), "simplify", "quantize-static", "strip")
    assert not {node.name for node in stripped.graph.node} & {"conv", "gemm"}
    feeds = {stripped.graph.input[0].name: FEEDS["x"]}
    found = profiled_layers(stripped.SerializeToString(), runtime, feeds, threads=1, graph=graph())
    told = {layer.name: layer for layer in found}
    assert {"conv", "gemm"} <= set(told)
    assert "int8" in told["conv"].placement


def test_weights_in_half_the_bytes_leave_the_names() -> None:
    stripped = passed(conv_net(), "simplify", "half", "strip")
    feeds = {stripped.graph.input[0].name: FEEDS["x"]}
    found = profiled_layers(stripped.SerializeToString(), "onnxruntime", feeds, threads=1, graph=graph())
    assert {"conv", "gemm"} <= {layer.name for layer in found}


def test_a_litert_file_is_told_operator_by_operator() -> None:
    try:
        runtimes.load("litert")
    except Unsupported as error:
        pytest.skip(f"{error.message}: {error.hint}")
    fixed = passed(conv_net(), "simplify")
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    data = exporters.load("litert").export(passed(fixed, "quantize-static", "strip")).data
    found = profiled_layers(data, "litert", FEEDS, threads=1, graph=graph())
    told = {layer.name: layer for layer in found}
    assert told["conv"].op == "CONV_2D"
    assert told["conv"].placement == "XNNPACK int8, timed alone"
    assert told["gemm"].op == "FULLY_CONNECTED"
    assert len(found) > 2


def test_layers_that_are_not_in_the_graph_keep_the_name_they_have() -> None:
    other = with_names(conv_net(channels=5))
    for node in other.graph.node:
        node.name = f"other_{node.name}"
        for place, name in enumerate(node.output):
            if name != "y":
                node.output[place] = f"other_{name}"
        for place, name in enumerate(node.input):
            if any(name in ("c", "r", "p", "f") for _ in (0,)):
                node.input[place] = f"other_{name}"
    found = profiled_layers(conv_net().SerializeToString(), "onnxruntime", FEEDS, threads=1, graph=other)
    assert "conv" in {layer.name for layer in found}


def test_graphs_inside_nodes_are_timed_too() -> None:
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"])], "i", [], [helper.make_tensor_value_info("r", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["n"])], "o", [], [helper.make_tensor_value_info("n", 1, None)]
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=9),
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=other, name="choose"),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", 1, [2])], [helper.make_tensor_value_info("y", 1, [2])]
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    found = profiled_layers(
        model.SerializeToString(), "onnxruntime", {"x": np.ones(2, np.float32)}, threads=1, graph=with_names(model)
    )
    assert any(layer.op == "If" for layer in found)


def test_a_model_that_does_not_run_is_one_sentence() -> None:
    with pytest.raises(EdgewardError):
        profiled_layers(
            conv_net().SerializeToString(), "onnxruntime", {"x": np.ones((1, 9), np.float32)}, threads=1, graph=graph()
        )


def test_what_was_forecast_goes_to_the_layer_of_that_name() -> None:
    ran = (Layer(name="a", op="Conv", time_ms=1.0), Layer(name="b", op="Reorder", time_ms=0.1))
    told = (Layer(name="a", op="Conv", forecast_gain=2.0, forecast_gains={"litert": 2.0}, why="sums"),)
    assert [(one.name, one.time_ms, one.forecast_gain, one.why) for one in with_forecast(ran, told)] == [
        ("a", 1.0, 2.0, "sums"),
        ("b", 0.1, None, ""),
    ]
