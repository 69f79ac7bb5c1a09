"""TVM's models are machine code for the processor that is asked for; what its compiler cannot do is one reason."""

import numpy as np
import onnx
import pytest

from edgeward.infer import runtimes
from edgeward.infer.tvm_library import signature_of
from edgeward.kit.errors import Failed, Unsupported, WrongInput
from edgeward.optimize import exporters

pytest.importorskip("tvm", reason="apache-tvm is not installed: pip install 'edgeward[tvm]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'edgeward[tvm]'")
pytestmark = pytest.mark.slow


def classifier() -> onnx.ModelProto:
    nodes = "c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) g = GlobalAveragePool(r) f = Flatten(g) y = Softmax(f)"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g (float[n,3,8,8] x) => (float[n,5] y) {{ {nodes} }}'
    )
    weights = np.random.default_rng(1).normal(size=(5, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return model


@pytest.fixture(scope="module")
def exporter() -> exporters.Compiler:
    made = exporters.load("tvm")
    assert isinstance(made, exporters.Compiler)
    return made


def test_a_model_for_another_processor_is_made_and_refused_here(exporter: exporters.Compiler) -> None:
    made = exporter.compile_for(classifier(), "aarch64")
    assert made.data[18] == 183, "EM_AARCH64"
    assert [spec.shape for spec in signature_of(made.data, "aarch64").inputs] == [(1, 3, 8, 8)]
    with pytest.raises(Unsupported, match="machine code for aarch64"):
        signature_of(made.data, "x86_64")
    with pytest.raises(Unsupported, match="made for x86_64 and aarch64"):
        exporter.compile_for(classifier(), "riscv64")


def test_a_damaged_model_is_told_so(exporter: exporters.Compiler) -> None:
    data = exporter.export(classifier()).data
    for damaged in (data[:-1], data[: len(data) // 2], b"\x7fELF" + data[-100:]):
        with pytest.raises((WrongInput, Unsupported)):
            runtimes.load("tvm").load(damaged, threads=1)


def test_a_classifier_answers_as_in_onnx_runtime(exporter: exporters.Compiler) -> None:
    images = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    session = runtimes.load("tvm").load(exporter.export(classifier()).data, threads=1)
    given = runtimes.load("onnxruntime").load(classifier().SerializeToString(), threads=1)
    for image in images:
        feeds = {"x": image[None]}
        np.testing.assert_allclose(session.run(feeds)[0], given.run(feeds)[0], rtol=1e-4, atol=1e-4)


def test_what_the_compiler_does_not_know_is_one_reason(exporter: exporters.Compiler) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,4,4] x) => (float[1] y) { y = Det(x) }'
    )
    with pytest.raises(Failed, match="TVM cannot compile this model"):
        exporter.export(model)
