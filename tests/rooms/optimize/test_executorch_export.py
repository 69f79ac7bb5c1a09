"""A quantised graph becomes an ExecuTorch program that computes in int8, with ONNX Runtime's answers within a step."""

import base64

import numpy as np
import onnx
import pytest

from edgeward.infer import runtimes
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.optimize import exporters

pytest.importorskip("executorch", reason="executorch is not installed: pip install 'edgeward[executorch]'")

STEP = 0.05
CHAINS = {
    "conv": "v = DequantizeLinear<axis=0>(w8, ws, wz) c = Conv<pads=[1,1,1,1]>(d, v, b)",
    "conv-bias-in-int32": "v = DequantizeLinear<axis=0>(w8, ws, wz) e = DequantizeLinear(b32, bs) "
    "c = Conv<pads=[1,1,1,1]>(d, v, e)",
    "conv-relu": "v = DequantizeLinear<axis=0>(w8, ws, wz) n = Conv<pads=[1,1,1,1]>(d, v, b) c = Relu(n)",
    "residual": "v = DequantizeLinear<axis=0>(w8, ws, wz) n = Conv<pads=[1,1,1,1]>(d, v, b) "
    "o = QuantizeLinear(n, s, z) p = DequantizeLinear(o, s, z) c = Add(p, d)",
    "matmul": "v = DequantizeLinear<axis=1>(m8, ws, wz) c = MatMul(d, v)",
    "matmul-one-scale": "v = DequantizeLinear(m8, bs, z8) c = MatMul(d, v)",
    "gemm": "f = Flatten<axis=3>(d) g = QuantizeLinear(f, s, z) h = DequantizeLinear(g, s, z) "
    "v = DequantizeLinear<axis=0>(m8, ws, wz) c = Gemm<transB=1>(h, v, b)",
}


def _quantised(nodes: str, zero: np.generic) -> onnx.ModelProto:
    generator = np.random.default_rng(5)
    small = lambda *shape: generator.integers(-100, 100, shape, np.int8)  # noqa: E731
    constants = {
        "s": np.float32(STEP), "z": zero, "w8": small(4, 4, 3, 3), "m8": small(4, 4),
        "ws": np.float32([0.01, 0.02, 0.005, 0.01]),
        "wz": np.zeros(4, np.int8), "z8": np.int8(0), "bs": np.float32(0.01), "b": np.float32([0.1, -0.2, 0.3, 0]),
        "b32": np.int32([10, -20, 30, 0]),
    }  # fmt: skip
    head = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
    text = f"{head} {nodes} k = QuantizeLinear(c, s, z) y = DequantizeLinear(k, s, z)"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 13]> g (float[n,4,6,4] x) => (float y) {{ {text} }}'
    )
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def _exported(model: onnx.ModelProto) -> exporters.Exported:
    return exporters.load("executorch").export(model)


@pytest.mark.slow
@pytest.mark.parametrize("zero", [np.uint8(100), np.int8(-10)], ids=["uint8", "int8"])
@pytest.mark.parametrize("nodes", CHAINS.values(), ids=CHAINS.keys())
def test_it_answers_within_a_step_and_all_of_it_is_xnnpacks(nodes, zero):
    model = _quantised(nodes, zero)
    values = np.random.default_rng(0).normal(size=(1, 4, 6, 4)).astype(np.float32)
    (wanted,) = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1).run({"x": values})
    exported = _exported(model)
    (got,) = runtimes.load("executorch").load(exported.data, threads=1).run({"x": values})
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= STEP * 1.001
    assert np.mean(got == wanted) > 0.95
    assert exported.notes[0].startswith("XNNPACK runs all of the model")


@pytest.mark.slow
def test_names_and_shapes_are_those_of_the_graph():
    session = runtimes.load("executorch").load(_exported(_quantised(CHAINS["conv"], np.uint8(100))).data, threads=1)
    assert [(spec.name, spec.shape) for spec in session.inputs] == [("x", (1, 4, 6, 4))]
    assert [(spec.name, spec.shape) for spec in session.outputs] == [("y", (1, 4, 6, 4))]


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        ("(float[n] x) => (float[n] y) { y = CumSum(x, x) }", "the operator CumSum"),
        ("(float[n,k] x) => (float[n,k] y) { y = Relu(x) }", "free dimension at place 1"),
        ("(float[n] x, float t) => (uint8[n] y) { y = QuantizeLinear(x, t) }", "no constant scale"),
    ],
    ids=["operator", "free-dimension", "computed-scale"],
)  # fmt: skip
def test_what_it_cannot_say_is_unsupported(graph, said):
    with pytest.raises(Unsupported, match=said):
        _exported(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 13]> g {graph}'))


def _smoke() -> bytes:
    return runtimes.load("executorch").smoke_model()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_program_cut_short_is_told_so(share):
    model = _smoke()
    with pytest.raises((WrongInput, Unsupported)):
        runtimes.load("executorch").load(model[: int(len(model) * share)], threads=1)


def test_more_than_the_program_was_made_for_is_wrong_input():
    session = runtimes.load("executorch").load(_smoke(), threads=1)
    with pytest.raises(WrongInput, match="has shape"):
        session.run({"x": np.ones(17, np.float32)})


def test_the_threads_can_change_between_loads():
    runtime = runtimes.load("executorch")
    for threads in (2, 1, 2):
        values = np.arange(4, dtype=np.float32)
        np.testing.assert_array_equal(runtime.load(_smoke(), threads=threads).run({"x": values})[0], 2 * values)


def test_a_session_outlives_the_bytes_it_was_loaded_from():
    session = runtimes.load("executorch").load(base64.b64decode(base64.b64encode(_smoke())), threads=1)
    _ = [bytes(1000) for _ in range(1000)]
    np.testing.assert_array_equal(session.run({"x": np.ones(2, np.float32)})[0], [2, 2])
