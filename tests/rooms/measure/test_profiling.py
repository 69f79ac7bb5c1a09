"""Profiles of small models in the real runtimes: every operator has its place, and the layers make up the whole."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import runtimes
from edgeward.kit.clock import SystemClock
from edgeward.kit.errors import EdgewardError, Unsupported
from edgeward.measure.profiling import requirements
from edgeward.measure.profiling.chrome_trace import trace_of
from edgeward.measure.profiling.flame import _forbidden, check_perf
from edgeward.measure.profiling.page import to_html
from edgeward.measure.profiling.profile import Given, profile
from edgeward.measure.profiling.roofline import roofline
from edgeward.measure.profiling.table import as_csv
from edgeward.records.profile import ModelProfile

SIDE = 24


def blocks(count: int = 3) -> onnx.ModelProto:
    """Like a MobileNet: a convolution, then depthwise and pointwise ones with additions, a mean and a product."""
    generator = np.random.default_rng(3)
    constants: list[TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def weight(name: str, *dims: int) -> str:
        values = generator.normal(0, 0.2, dims).astype(np.float32)
        constants.append(numpy_helper.from_array(values, name))
        return name

    def conv(name: str, source: str, dims: tuple[int, ...], **options: object) -> str:
        weights = [weight(f"{name}.w", *dims), weight(f"{name}.b", dims[0])]
        nodes.append(helper.make_node("Conv", [source, *weights], [f"{name}.c"], name=name, **options))
        nodes.append(helper.make_node("Relu", [f"{name}.c"], [f"{name}.r"], name=f"{name}.relu"))
        return f"{name}.r"

    at = conv("stem", "x", (16, 3, 3, 3), pads=[1] * 4)
    for index in range(count):
        before = at
        at = conv(f"depth{index}", at, (16, 1, 3, 3), group=16, pads=[1] * 4)
        at = conv(f"point{index}", at, (16, 16, 1, 1))
        nodes.append(helper.make_node("Add", [at, before], [f"sum{index}"], name=f"sum{index}"))
        at = f"sum{index}"
    nodes += [
        helper.make_node("GlobalAveragePool", [at], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", weight("head.w", 16, 10), weight("head.b", 10)], ["y"], name="head"),
    ]
    value = helper.make_tensor_value_info
    shapes = value("x", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE]), value("y", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "blocks", [shapes[0]], [shapes[1]], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def as_litert(model: onnx.ModelProto) -> bytes:
    from edgeward.optimize import exporters

    return bytes(exporters.load("litert").export(model).data)


def profiled(runtime: str, model: onnx.ModelProto | bytes) -> ModelProfile:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = runtimes.load(runtime).load(data, threads=1)
    generator = np.random.default_rng(1)
    feed = {}
    for spec in session.inputs:
        sizes = [dim if isinstance(dim, int) else 1 for dim in spec.shape]
        feed[spec.name] = generator.normal(size=sizes).astype(spec.dtype)
    return profile(Given("model", data, runtime, 1, [feed]), seconds=0.4, clock=SystemClock())


@pytest.fixture(scope="module", params=["onnxruntime", "openvino", "litert"])
def found(request: pytest.FixtureRequest) -> tuple[ModelProfile, int]:
    """A profile, and how many operators the model has."""
    try:
        runtimes.load(request.param)
    except Unsupported as error:
        pytest.skip(f"{error.message}: {error.hint}")
    model = blocks()
    if request.param == "litert":
        data = as_litert(model)
        from edgeward.infer.litert_profile import operator_names

        return profiled("litert", data), len(operator_names(data))
    return profiled(request.param, model), len(model.graph.node)


@pytest.mark.slow
def test_every_operator_of_the_model_has_one_end(found: tuple[ModelProfile, int]) -> None:
    told, count = found
    assert len(told.nodes) == count
    fates = Counter(node.fate for node in told.nodes)
    assert fates["ran"] >= 8, "four convolutions, three depthwise ones and the product"
    named = {layer.name for layer in told.layers}
    assert all(node.layer in named for node in told.nodes if node.fate in ("ran", "fused"))
    ran = [node for layer in told.layers for node in layer.nodes]
    assert len(ran) == len(set(ran)) == fates["ran"] + fates["fused"]


@pytest.mark.slow
def test_convolutions_have_the_work_that_one_counts_by_hand(found: tuple[ModelProfile, int]) -> None:
    told, _ = found
    pixels = SIDE * SIDE
    wanted = Counter([pixels * 16 * 27, *[pixels * 16 * 9] * 3, *[pixels * 16 * 16] * 3, 160])
    assert Counter(layer.macs for layer in told.layers if layer.macs) == wanted


@pytest.mark.slow
def test_shares_and_limits_hold_together(found: tuple[ModelProfile, int]) -> None:
    told, _ = found
    assert told.between_ms == pytest.approx(told.time_ms - sum(layer.time_ms for layer in told.layers))
    assert sum(told.devices.values()) == pytest.approx(1)
    assert told.limit_ms == pytest.approx(sum(layer.limit_ms or 0 for layer in told.layers))
    assert max(layer.cumulative for layer in told.layers) == pytest.approx(told.layers_ms / told.time_ms)
    assert {"float32", "int8"} <= set(told.roofs.gops_per_s)
    assert len(told.roofs.bandwidths) == 3
    assert all(layer.loss in ("", *(loss.kind for loss in told.losses)) for layer in told.layers if not layer.loss)


@pytest.mark.slow
def test_page_table_trace_and_requirement_tell_the_same_layers(found: tuple[ModelProfile, int]) -> None:
    told, _ = found
    page = to_html(told)
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert roofline(told, 880.0).startswith("<svg")
    rows = as_csv(told).decode().splitlines()
    assert len(rows) == len(told.layers) + 2
    assert rows[-1].split(",")[1] == "between the layers"
    events = json.loads(json.dumps(trace_of(told)))["traceEvents"]
    spans = [event for event in events if event["ph"] == "X" and event["tid"] > 0]
    assert sum(event["dur"] for event in spans) == pytest.approx(1000 * told.layers_ms, rel=0.01)
    outcome = requirements.judge(requirements.parse("cpu:100%"), told)
    assert outcome.met
    missed = requirements.judge(requirements.parse("cpu-int8:90%"), told)
    assert not missed.met
    assert len(missed.missing) == len(told.layers)
    assert "wanted 90 %" in requirements.sentence(missed)


@pytest.mark.slow
def test_in_int8_xnnpack_leaves_what_it_has_not_to_the_interpreter() -> None:
    from edgeward.optimize import passes
    from edgeward.records.candidate import Step

    samples = [{"x": np.random.default_rng(n).normal(size=(3, SIDE, SIDE)).astype(np.float32)} for n in range(4)]
    context = passes.Context(samples, "tensor", (), 0, None)
    step = Step(use="quantize-static", options={"activations": "int8", "per_channel": True})
    quantised = passes.load("quantize-static").apply(blocks(), step, context).model
    told = profiled("litert", as_litert(quantised))
    assert set(told.devices) <= {"XNNPACK", "CPU"}
    heavy = [layer for layer in told.layers if layer.macs]
    assert {layer.precision for layer in heavy} == {"int8"}
    assert {layer.device for layer in heavy} == {"XNNPACK"}
    elsewhere = [layer.name for layer in told.layers if layer.device == "CPU"]
    outcome = requirements.judge(requirements.parse("xnnpack:100%:nodes"), told)
    assert outcome.met == (not elsewhere)
    assert len(outcome.missing) == len(elsewhere)


def one(*nodes: onnx.NodeProto, shape: tuple[int | str, ...] = (1, 4)) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    ends = value("x", TensorProto.FLOAT, shape), value("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "one", [ends[0]], [ends[1]])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: one(helper.make_node("Abs", ["x"], ["y"])),
        lambda: one(
            *(helper.make_node("Abs", [f"v{n}" if n else "x"], [f"v{n + 1}" if n < 299 else "y"]) for n in range(300))
        ),
        lambda: one(
            helper.make_node("NonZero", ["x"], ["n"]), helper.make_node("Cast", ["n"], ["y"], to=TensorProto.FLOAT)
        ),
    ],
    ids=["one operator", "hundreds of operators", "shapes that hang on values"],
)
def test_odd_models_have_profiles_too(make: Callable[[], onnx.ModelProto]) -> None:
    model = make()
    told = profiled("onnxruntime", model)
    assert len(told.nodes) == len(model.graph.node)
    assert told.layers
    assert to_html(told)


@pytest.mark.slow
def test_a_model_that_only_hands_its_input_on_says_that_nothing_ran() -> None:
    with pytest.raises(EdgewardError, match="no operator"):
        profiled("openvino", one(helper.make_node("Identity", ["x"], ["y"])))


def test_a_perf_that_may_not_sample_names_the_command_that_mends_it(tmp_path: Path) -> None:
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/perf_event_paranoid").write_text("4\n")
    error = _forbidden("Error:\nNo permission to enable cycles event.", tmp_path)
    assert error.exit_code == 4
    assert "is 4" in error.message
    assert "perf_event_paranoid=1" in (error.hint or "")


def test_without_perf_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="not installed") as told:
        check_perf()
    assert told.value.hint == "apt-get install linux-perf"
