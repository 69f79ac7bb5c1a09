"""The forecast for int8: each distinct layer once, run for real, and told with its reason before the work."""

import numpy as np
import onnx
import pytest
from graph_models import conv_net, dense_net
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper
from report_sample import forecast, trial

from edgeward.infer import runtimes
from edgeward.kit.errors import Unsupported
from edgeward.measure.node_times import node_times
from edgeward.measure.place import HERE
from edgeward.optimize import exporters
from edgeward.optimize.forecast import lines, look_ahead, reasons, saved_ms, why, with_truth
from edgeward.optimize.layer_times import Cost
from edgeward.optimize.layers import LayerShape, channels_last, in_int8, layer_shapes, pooled_last
from edgeward.optimize.named_layers import with_names
from edgeward.optimize.propose import recipes
from edgeward.records.candidate import Forecast, Layer, RuntimeForecast, Step, Trial

QUANTISE = next(one for one in recipes("x86_64", ("avx512_vnni",)) if one.name == "litert-int8-minmax").steps


def values(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def network(nodes, inputs, outputs, constants, opset: int = 17) -> onnx.ModelProto:
    made = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, made)
    return with_names(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


def residual_net(repeats: int = 2) -> onnx.ModelProto:
    """Equal blocks of a convolution, the addition of a branch and a Relu, then one that is depthwise."""
    generator = np.random.default_rng(0)
    nodes, constants, last = list[onnx.NodeProto](), {}, "x"
    for index in range(repeats):
        constants[f"w{index}"] = generator.normal(size=(8, 8, 3, 3)).astype(np.float32) / 9
        constants[f"b{index}"] = generator.normal(size=8).astype(np.float32)
        nodes += [
            helper.make_node("Conv", [last, f"w{index}", f"b{index}"], [f"c{index}"], pads=[1, 1, 1, 1]),
            helper.make_node("Add", [f"c{index}", last], [f"a{index}"]),
            helper.make_node("Relu", [f"a{index}"], [f"r{index}"]),
        ]
        last = f"r{index}"
    constants["d"] = generator.normal(size=(8, 1, 3, 3)).astype(np.float32)
    nodes.append(helper.make_node("Conv", [last, "d"], ["y"], group=8, pads=[1, 1, 1, 1]))
    return network(nodes, [values("x", ["batch", 8, 12, 12])], [values("y", ["batch", 8, 12, 12])], constants)


def attention_net() -> onnx.ModelProto:
    """A product of two activations and a Softmax."""
    nodes = [
        helper.make_node("MatMul", ["x", "k"], ["q"]),
        helper.make_node("Transpose", ["q"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=-1),
    ]
    weights = {"k": np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)}
    return network(nodes, [values("x", [1, 10, 16])], [values("y", [1, 10, 10])], weights)


def test_equal_layers_are_one_shape_with_the_addition_and_relu_behind_them() -> None:
    shapes = layer_shapes(residual_net(repeats=3))
    assert [(shape.op, len(shape.names), shape.is_depthwise) for shape in shapes] == [
        ("Conv", 3, False),
        ("Conv", 1, True),
    ]
    assert [node.op_type for node in shapes[0].float_model.graph.node] == ["Conv", "Add", "Relu"]
    assert shapes[0].macs == 8 * 12 * 12 * 8 * 9
    assert shapes[1].macs == 8 * 12 * 12 * 9


def test_a_layer_whose_shape_hangs_on_the_input_is_left_out() -> None:
    weights = {"w": np.ones((4, 3, 3, 3), np.float32)}
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    free = network([node], [values("x", [1, 3, "h", "w"])], [values("y", [1, 4, "h2", "w2"])], weights)
    assert layer_shapes(free) == ()


@pytest.mark.parametrize("model", [residual_net(), attention_net(), conv_net(), dense_net()])
@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_every_layer_in_int8_is_a_sound_model_that_runs(model: onnx.ModelProto, activations: str) -> None:
    for shape in layer_shapes(with_names(model)):
        quantised = in_int8(shape, activations, reduced=False)
        onnx.checker.check_model(quantised, full_check=True)
        (times,) = node_times("onnxruntime", [quantised.SerializeToString()], threads=1, seconds=0.01)
        assert not isinstance(times, str)


def test_a_convolution_in_int8_runs_in_one_integer_kernel() -> None:
    shape = layer_shapes(with_names(conv_net()))[0]
    (times,) = node_times(
        "onnxruntime", [in_int8(shape, "uint8", reduced=True).SerializeToString()], threads=1, seconds=0.01
    )
    assert [node.kernel for node in times if not node.is_conversion] == ["QLinearConv"]


def test_weights_that_are_no_numbers_give_a_layer_all_the_same() -> None:
    model = conv_net()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    weight.CopyFrom(numpy_helper.from_array(np.full((4, 3, 3, 3), np.nan, np.float32), "w"))
    quantised = in_int8(layer_shapes(with_names(model))[0], "uint8", reduced=False)
    scales = next(t for t in quantised.graph.initializer if t.name.endswith("_scale") and t.dims == [4])
    assert np.isfinite(numpy_helper.to_array(scales)).all()


def test_a_layer_with_channels_last_gives_the_same_answers() -> None:
    shape = layer_shapes(residual_net())[0]
    plain = runtimes.load("onnxruntime").load(shape.float_model.SerializeToString(), threads=1)
    turned = runtimes.load("onnxruntime").load(channels_last(shape.float_model).SerializeToString(), threads=1)
    feeds = {
        spec.name: np.random.default_rng(index).normal(size=(1, 8, 12, 12)).astype(np.float32)
        for index, spec in enumerate(plain.inputs)
    }
    (wanted,) = plain.run(feeds)
    moved = {name + "_last": np.moveaxis(value, 1, -1).copy() for name, value in feeds.items()}
    np.testing.assert_allclose(np.moveaxis(turned.run(moved)[0], -1, 1), wanted, rtol=1e-5)


def test_the_forecast_tells_each_layer_in_the_order_of_the_graph() -> None:
    outlook = look_ahead(residual_net(), HERE, threads=1)
    told = outlook.told
    assert [layer.op for layer in told.layers] == ["Conv", "Conv", "Conv depthwise"]
    assert [layer.name for layer in told.layers] == [n.name for n in outlook.graph.graph.node if n.op_type == "Conv"]
    assert sum(layer.share or 0 for layer in told.layers) == pytest.approx(1, abs=0.01)
    assert told.covered == 1
    onnxruntime = next(one for one in told.runtimes if one.runtime == "onnxruntime")
    assert onnxruntime.gain is not None
    assert onnxruntime.speedup == onnxruntime.gain
    assert all(layer.why and layer.forecast_gain for layer in told.layers)
    assert told.summary in lines(told)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        pytest.param(
            network(
                [helper.make_node("Relu", ["x"], ["y"])], [values("x", [1, 4])], [values("y", [1, 4])], {}
            ),
            "no convolution or matrix product", id="nothing to speed up",
        ),
        pytest.param(
            network(
                [
                    helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
                    helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
                    helper.make_node("MatMul", ["d", "w"], ["y"]),
                ],
                [values("x", [1, 4])], [values("y", [1, 4])],
                {"s": np.array(0.1, np.float32), "w": np.ones((4, 4), np.float32)},
            ),
            "quantised already", id="quantised already",
        ),
    ],
)  # fmt: skip
def test_where_there_is_nothing_to_forecast_it_says_so(model: onnx.ModelProto, said: str) -> None:
    told = look_ahead(model, HERE, threads=1).told
    assert said in told.summary
    assert told.layers == ()
    assert lines(told) == (told.summary,)


def test_without_time_there_is_no_forecast_but_the_cpu_is_told() -> None:
    told = look_ahead(residual_net(), HERE, threads=1, in_time=False).told
    assert "time limit" in told.summary
    assert "this CPU has" in told.summary
    assert told.runtimes == ()


def a_shape(op: str = "Conv", **more: object) -> LayerShape:
    plain = LayerShape(
        key="", names=("a",), op=op, is_depthwise=False, stays_float=False, macs=1_000_000, moved_bytes=10_000,
        weight_bytes=4_000, input_shapes=((1, 32, 8, 8),), output_shapes=((1, 32, 8, 8),),
        float_model=residual_net(1),
    )  # fmt: skip
    return plain._replace(**more)


@pytest.mark.parametrize(
    ("shape", "cost", "features", "said"),
    [
        (a_shape(), Cost(0.03, 0.01), ["avx512_vnni"], "avx512_vnni sums four"),
        (a_shape(), Cost(0.03, 0.04), [], "no int8 dot-product instruction"),
        (a_shape(), Cost(0.03, 0.04), ["asimddp"], "no faster at this shape"),
        (a_shape(input_shapes=((1, 3, 8, 8),)), Cost(0.01, 0.03), ["avx_vnni"], "only 3 input channels"),
        (a_shape(input_shapes=((1, 1, 8, 8),)), Cost(0.01, 0.03), ["avx_vnni"], "only one input channel"),
        (a_shape(), Cost(0.001, 0.002), ["avx_vnni"], "so small"),
        (a_shape("Add"), Cost(0.01, 0.01), ["avx_vnni"], "moves values"),
        (a_shape("Softmax", stays_float=True), Cost(0.01, 0.03), ["avx_vnni"], "stays in float"),
        (
            a_shape("Gemm", macs=1_000_000, weight_bytes=4_000_000), Cost(0.3, 0.1), ["avx_vnni"],
            "reads each weight once",
        ),
    ],
)  # fmt: skip
def test_the_reason_fits_the_layer(shape: LayerShape, cost: Cost, features: list[str], said: str) -> None:
    assert said in why(shape, cost, features)


def a_forecast(**gains: float) -> Forecast:
    found = tuple(RuntimeForecast(runtime=name, gain=gain, speedup=gain) for name, gain in gains.items())
    return replace(forecast(), runtimes=found)


def ran(name: str, p50_ms: float, *, steps: tuple[Step, ...] = QUANTISE, runtime: str = "litert") -> Trial:
    return trial(name, p50_ms, 0.0, 1000, steps=steps, runtime=runtime, precision="int8")


def test_the_truth_is_the_fastest_plain_int8_candidate_of_the_same_runtime() -> None:
    given = trial("as-given", 0.2, 0.0, 1000, steps=())
    mixed = tuple(
        replace(step, options={"keep_float": "a"}) if step.use == "quantize-static" else step for step in QUANTISE
    )
    plain_float = trial("litert-float32", 0.3, 0.0, 1000, runtime="litert", precision="float32")
    tried = (
        given,
        ran("other", 0.01, runtime="openvino"),
        ran("mixed", 0.05, steps=mixed),
        ran("slow", 0.2),
        plain_float,
    )
    told = with_truth(a_forecast(litert=2.0), (*tried, ran("plain", 0.1)), given).runtimes[0]
    assert (told.recipe, told.measured_speedup, told.measured_gain, told.is_alone) == ("plain", 2.0, 3.0, False)


def test_of_candidates_that_were_stopped_early_the_time_alone_is_the_truth() -> None:
    given = trial("as-given", 0.2, 0.0, 1000, steps=(), alone_ms=0.21)
    stopped = replace(ran("plain", 0.1), latency_ms=None, failure="stopped early: 0.3 ms", alone_ms=0.3)
    told = with_truth(a_forecast(litert=2.0), (given, stopped), given).runtimes[0]
    assert (told.recipe, told.measured_speedup, told.is_alone) == ("plain", 0.7, True)


def test_a_runtime_that_was_not_tried_stays_a_forecast() -> None:
    given = trial("as-given", 0.2, 0.0, 1000, steps=())
    assert with_truth(a_forecast(litert=2.0), (given,), given).runtimes[0].measured_speedup is None


def test_layers_with_the_same_reason_are_told_together_the_largest_share_first() -> None:
    told = [
        Layer(name="a", op="Add", share=0.1, forecast_gain=0.5, why="moves"),
        Layer(name="b", op="Conv", share=0.5, forecast_gain=3.0, why="sums"),
        Layer(name="c", op="Conv", share=0.4, forecast_gain=2.0, why="sums"),
        Layer(name="d", op="Relu"),
    ]
    found = reasons(told)
    assert [(one.verb, one.why, len(one.layers)) for one in found] == [("gain", "sums", 2), ("lose", "moves", 1)]
    assert found[0].share == pytest.approx(0.9)


def test_what_int8_saves_is_less_than_nothing_where_it_loses() -> None:
    told = replace(
        forecast(),
        layers=(
            Layer(name="a", op="Conv", time_ms=0.4, forecast_gains={"litert": 4.0}),
            Layer(name="b", op="Conv", time_ms=0.1, forecast_gains={"litert": 0.5}),
            Layer(name="c", op="Conv", time_ms=0.1, forecast_gains={}),
            Layer(name="not timed in the baseline", op="Conv", forecast_gains={"litert": 0.5}),
        ),
    )
    saved = saved_ms(told, residual_net(), "litert")
    assert saved.pop("not timed in the baseline") < 0
    assert saved == pytest.approx({"a": 0.3, "b": -0.1})


def test_each_runtime_that_is_installed_has_a_forecast_or_a_reason() -> None:
    for one in look_ahead(attention_net(), HERE, threads=1).told.runtimes:
        try:
            runtimes.load(one.runtime)
        except Unsupported:
            assert one.gain is None
            assert one.why
        else:
            assert one.gain is not None


def test_a_layer_of_int8_tensors_answers_in_litert_as_in_onnxruntime() -> None:
    try:
        litert = runtimes.load("litert")
    except Unsupported as error:
        pytest.skip(f"{error.message}: {error.hint}")
    quantised = channels_last(in_int8(layer_shapes(with_names(conv_net()))[0], "int8", reduced=False))
    fixed = exporters.load("litert").export(quantised).data
    mine = litert.load(fixed, threads=1)
    assert [(spec.dtype, spec.shape) for spec in (*mine.inputs, *mine.outputs)] == [
        ("int8", (1, 8, 8, 3)),
        ("int8", (1, 8, 8, 4)),
    ]
    values_in = np.random.default_rng(0).integers(-100, 100, (1, 8, 8, 3)).astype(np.int8)
    theirs = runtimes.load("onnxruntime").load(quantised.SerializeToString(), threads=1)
    wanted = theirs.run({theirs.inputs[0].name: values_in})[0]
    got = mine.run({mine.inputs[0].name: values_in})[0]
    assert np.abs(got.astype(int) - wanted.astype(int)).max() <= 1
    assert np.ptp(wanted.astype(int)) > 50


def test_a_pool_in_int8_has_its_channels_last_as_behind_an_integer_convolution() -> None:
    pool = helper.make_node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    weights = {"w": np.ones((8, 8, 1, 1), np.float32)}
    model = network(
        [helper.make_node("Conv", ["x", "w"], ["c"]), pool], [values("x", [1, 8, 6, 4])], [values("y", [1, 8, 3, 2])],
        weights,
    )  # fmt: skip
    quantised = pooled_last(in_int8(layer_shapes(model)[1], "uint8", reduced=False))
    session = runtimes.load("onnxruntime").load(quantised.SerializeToString(), threads=1)
    assert [spec.shape for spec in (*session.inputs, *session.outputs)] == [(1, 6, 4, 8), (1, 3, 2, 8)]
    picture = np.random.default_rng(0).integers(0, 255, (1, 6, 4, 8)).astype(np.uint8)
    (got,) = session.run({"x": picture})
    np.testing.assert_array_equal(got, picture.reshape(1, 3, 2, 2, 2, 8).max(axis=(2, 4)))
