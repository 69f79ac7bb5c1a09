"""Models as exporters really write them: the search ends in a result for each, or in one clear sentence."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from tests.system import models_for_tests as models

SHARED = Path(__file__).parents[3] / "shared" / "data"


def optimized(model: Path, data: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeward", "optimize", str(model), "--data", str(data), "--time-limit", "10s"]
    return subprocess.run(
        [*command, "-o", str(output), "--json"], capture_output=True, text=True, check=False, timeout=280
    )


def in_half_precision() -> onnx.ModelProto:
    """With inputs, weights and outputs of float16."""
    model = models.classifier()
    for tensor in model.graph.initializer:
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        tensor.CopyFrom(half)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def of_opset_9() -> onnx.ModelProto:
    """With the constants among the inputs too, as exporters of that time did."""
    model = models.classifier()
    model.opset_import[0].version = 9  # its operators were there and the same
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims)))
    model.ir_version = 3
    return model


def with_generated_dimensions() -> onnx.ModelProto:
    """Every dimension of the input free but for the channel, and called as tf2onnx and PyTorch call them."""
    model = models.classifier(side="unk__17")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "unk__16"
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], (8, 8), strict=True):
        dim.dim_value = size
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "unk__18"
    return model


def with_channels_last() -> onnx.ModelProto:
    """As tf2onnx brings a channels-last network: a transpose around what ONNX wants channels first."""
    model = models.classifier()
    graph = model.graph
    graph.node.insert(0, helper.make_node("Transpose", ["picture"], ["image"], perm=[0, 3, 1, 2]))
    graph.input[0].CopyFrom(helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["unk__1", 8, 8, 1]))
    return model


def with_constants_as_nodes() -> onnx.ModelProto:
    model = models.classifier()
    made = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in model.graph.initializer]
    nodes = [*made, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def with_dequantised_weights() -> onnx.ModelProto:
    """As converters of weight-only models write them: int8 constants behind DequantizeLinear, float elsewhere."""
    model = models.classifier()
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "kernel")
    values = numpy_helper.to_array(kernel)
    scale = np.abs(values).max() / 127
    model.graph.initializer.extend([
        numpy_helper.from_array(np.rint(values / scale).astype(np.int8), "kernel_int8"),
        numpy_helper.from_array(np.float32(scale), "kernel_scale"),
        numpy_helper.from_array(np.int8(0), "kernel_zero"),
    ])  # fmt: skip
    model.graph.initializer.remove(next(tensor for tensor in model.graph.initializer if tensor.name == "kernel"))
    inputs = ["kernel_int8", "kernel_scale", "kernel_zero"]
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, ["kernel"]))
    return model


class _Samples(CalibrationDataReader):
    def __init__(self) -> None:
        self._rest = iter(models.samples(20)[0])

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._rest, None)
        return None if image is None else {"image": image.transpose(2, 0, 1)[None].astype(np.float32)}


def quantised_already(folder: Path) -> onnx.ModelProto:
    """With QuantizeLinear and DequantizeLinear around every layer, by ONNX Runtime's own quantiser."""
    onnx.save(models.classifier(), folder / "float.onnx")
    quantize_static(folder / "float.onnx", folder / "qdq.onnx", _Samples(), quant_format=QuantFormat.QDQ)
    return onnx.load(folder / "qdq.onnx")


EXPORTS: dict[str, Callable[[], onnx.ModelProto]] = {
    "half precision": in_half_precision, "opset 9": of_opset_9, "generated dimensions": with_generated_dimensions,
    "channels last": with_channels_last, "constants as nodes": with_constants_as_nodes,
    "dequantised weights": with_dequantised_weights,
}  # fmt: skip


def ended(model: Path, tmp_path: Path, data: Path | None = None) -> dict[str, object]:
    done = optimized(model, data or models.write_samples(tmp_path / "data.npz"), tmp_path / "out")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["chosen"]["quality"]["top1"] > 0.9
    return report


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXPORTS)
def test_the_search_ends_in_a_choice(kind, tmp_path):
    model = EXPORTS[kind]()
    images, labels = models.samples()
    data = tmp_path / "data.npz"
    np.savez(data, **{model.graph.input[0].name: images, "labels": labels})
    onnx.save(model, tmp_path / "model.onnx")
    ended(tmp_path / "model.onnx", tmp_path, data)


@pytest.mark.slow
def test_a_model_that_is_quantised_already_ends_in_a_choice(tmp_path):
    onnx.save(quantised_already(tmp_path), tmp_path / "model.onnx")
    ended(tmp_path / "model.onnx", tmp_path)


@pytest.mark.slow
def test_weights_in_a_file_beside_the_model_are_read(tmp_path):
    save_beside(tmp_path)
    ended(tmp_path / "model.onnx", tmp_path)


@pytest.mark.slow
def test_an_export_of_tf2onnx_ends_in_a_choice(tmp_path):
    model = SHARED / "mlperf-tiny" / "resnet8-float.onnx"
    if not model.exists():
        pytest.skip("../shared/data is not here: it holds an export of tf2onnx")
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 32, 32, 3)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x=images)
    done = optimized(model, tmp_path / "data.npz", tmp_path / "out")
    assert done.returncode == 0, done.stderr


def save_beside(folder: Path, location: str = "model.data") -> Path:
    onnx.save_model(
        models.classifier(), folder / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0
    )
    if location != "model.data":
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def test_a_missing_file_of_weights_is_told(tmp_path):
    model = save_beside(tmp_path)
    (tmp_path / "model.data").unlink()
    done = optimized(model, models.write_samples(tmp_path / "data.npz"), tmp_path / "out")
    assert done.returncode == 2
    assert "model.data" in done.stderr
    assert "missing" in done.stderr


def test_a_truncated_file_of_weights_is_told(tmp_path):
    model = save_beside(tmp_path)
    (tmp_path / "model.data").write_bytes((tmp_path / "model.data").read_bytes()[:10])
    done = optimized(model, models.write_samples(tmp_path / "data.npz"), tmp_path / "out")
    assert done.returncode == 2
    assert "mistake in edgeward" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("location", ["../secret.data", "/etc/passwd", "inner/../../secret.data"])
def test_weights_outside_the_folder_are_refused(location, tmp_path):
    (tmp_path / "secret.data").write_bytes(bytes(5000))
    folder = tmp_path / "model"
    folder.mkdir()
    done = optimized(save_beside(folder, location), models.write_samples(tmp_path / "data.npz"), tmp_path / "out")
    assert done.returncode in (2, 6)
    assert "outside" in done.stderr
    assert "mistake in edgeward" not in done.stderr


def test_a_link_to_weights_outside_the_folder_is_refused(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    model = save_beside(folder)
    (folder / "model.data").rename(tmp_path / "secret.data")
    (folder / "model.data").symlink_to(tmp_path / "secret.data")
    done = optimized(model, models.write_samples(tmp_path / "data.npz"), tmp_path / "out")
    assert done.returncode in (2, 6)
    assert "mistake in edgeward" not in done.stderr
