import math

import numpy as np
import pytest

from edgeward.measure import peaks
from edgeward.measure.peaks import KERNELS, load_product, operand


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.model)
def test_the_int8_products_are_numerically_right(kernel):
    given = operand(kernel.dtype, 8)
    (got,) = load_product(kernel.model, 1).run({"x": given})
    wanted = np.rint(given.astype(np.int64).sum(axis=1, keepdims=True) / peaks.SIDE)
    assert got.dtype == kernel.dtype
    assert got.shape == (8, peaks.SIDE)
    assert (got == wanted).all()


def test_the_float_product_is_numerically_right_and_follows_its_input():
    session = load_product("fp32", 1)
    given = operand("float32", 4)
    (got,) = session.run({"x": given})
    np.testing.assert_allclose(got, np.broadcast_to(given.sum(axis=1, keepdims=True) / 2, got.shape), rtol=1e-5)
    (doubled,) = session.run({"x": 2 * given})
    np.testing.assert_allclose(doubled, 2 * got, rtol=1e-5)


def test_the_models_are_what_their_script_makes(tmp_path):
    pytest.importorskip("onnx")
    import onnx
    from onnx import parser

    from edgeward.measure.peak_models import make_models

    for name, text in make_models.MODELS.items():
        kept = onnx.load(peaks.MODELS / f"{name}.onnx")
        assert kept == parser.parse_model(make_models.HEAD + text)
        assert (peaks.MODELS / f"{name}.onnx").stat().st_size < 1000


@pytest.mark.parametrize(("name", "kernel"), [("fp32", "MatMul"), ("u8s8", "QLinearMatMul"), ("s8s8", "QLinearMatMul")])
def test_onnx_runtime_folds_the_weights_and_keeps_the_product(tmp_path, name, kernel):
    onnx = pytest.importorskip("onnx")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    session = onnxruntime.InferenceSession(peaks.MODELS / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].name == "x"
    assert [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node] == [kernel]


def test_the_measured_peaks_are_finite_and_say_how_they_were_taken():
    found = peaks.measure_peaks(2)
    figures = (
        found.fp32_gflops_one, found.fp32_gflops_all, found.int8_gops_one, found.int8_gops_all, found.memory_gb_per_s,
    )  # fmt: skip
    assert all(math.isfinite(figure) and figure > 0.01 for figure in figures)
    assert found.threads == 2
    assert "QLinearMatMul" in found.setting
    assert "MiB" in found.setting


def test_the_copy_goes_beyond_the_cache_but_leaves_memory_to_others(nothing):
    cache = nothing / "sys/devices/system/cpu/cpu0/cache"
    for index, size in (("index0", "48K"), ("index2", "2048K"), ("index3", "98304K"), ("index4", "broken")):
        (cache / index).mkdir(parents=True)
        (cache / index / "size").write_text(size + "\n")
    (nothing / "proc").mkdir()
    (nothing / "proc/meminfo").write_text("MemAvailable:   16000000 kB\n")
    assert peaks.copy_bytes(nothing) == 2 * 98304 * 1024
    (nothing / "proc/meminfo").write_text("MemAvailable:   40000 kB\n")
    assert peaks.copy_bytes(nothing) == 40000 * 1024 // 4
    (nothing / "proc/meminfo").unlink()
    assert peaks.copy_bytes(nothing) == 1 << 20
