"""Model files of other frameworks are read with the answers of the original, or refused in one sentence."""

import contextlib
import importlib.util
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from tests.conformance.test_exporter_members import CHAINS, _model

from edgeward.infer import runtimes
from edgeward.kit.errors import EdgewardError, Failed, Refused, Unsupported, WrongInput
from edgeward.optimize import exporters, parity, readers

pytest.importorskip("ai_edge_litert")
WRITTEN_ONLY = ("argmax", "argmax-without-the-axis", "running-sum", "tile", "where", "without-nan")
"""What the exporter writes and the reader has no rule for yet."""
READ = {name: nodes for name, nodes in CHAINS.items() if name not in WRITTEN_ONLY}
TORCH = importlib.util.find_spec("torch") is not None


def _tflite(nodes: str, folder: Path) -> Path:
    file = folder / "model.tflite"
    file.write_bytes(exporters.load("litert").export(_model(nodes)).data)
    return file


@pytest.mark.parametrize("name", WRITTEN_ONLY)
def test_an_operator_without_a_rule_is_told_by_its_name(name, tmp_path):
    with pytest.raises(Unsupported, match=r"there is no rule to bring the LiteRT operator [A-Z]"):
        readers.read(_tflite(CHAINS[name], tmp_path))


@pytest.mark.parametrize("nodes", READ.values(), ids=READ.keys())
def test_a_litert_model_answers_the_same_once_it_is_read(nodes, tmp_path):
    found = readers.read(_tflite(nodes, tmp_path))
    session = runtimes.load("onnxruntime").load(found.model.SerializeToString(), threads=1)
    values = np.random.default_rng(0).normal(size=(4, 8, 10)).astype(np.float32)
    assert "answers differ by at most" in parity.prove(found.original, session, [{"x": values}])


def test_a_batch_of_one_becomes_free_where_no_operator_mixes_samples(tmp_path):
    model = readers.read_model(_tflite(CHAINS["residual"], tmp_path))
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_answers_that_are_not_the_originals_stop_the_work(tmp_path):
    found = readers.read(_tflite(CHAINS["conv"], tmp_path))
    for tensor in found.model.graph.initializer:
        if len(tensor.dims) == 4:
            changed = onnx.numpy_helper.to_array(tensor) * np.float32(1.2)
            tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))
    session = runtimes.load("onnxruntime").load(found.model.SerializeToString(), threads=1)
    with pytest.raises(Failed, match="answers differ by up to"):
        parity.prove(found.original, session, [{"x": np.ones((4, 8, 10), np.float32)}])


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"no model at all", "TFL3"), (b"\x1c\0\0\0TFL3" + bytes(64), ""), (b"\x89PNG\r\n\x1a\n", "TFL3")],
    ids=["empty", "text", "zeros", "picture"],
)
def test_what_is_no_litert_model_is_refused_in_one_sentence(data, reason, tmp_path):
    file = tmp_path / "bad.tflite"
    file.write_bytes(data)
    with pytest.raises(WrongInput) as caught:
        readers.read(file)
    assert str(file) in caught.value.message
    assert reason in caught.value.message


def test_damaged_litert_models_end_in_a_model_or_a_sentence(tmp_path):
    whole = _tflite(CHAINS["conv-bias-relu"], tmp_path).read_bytes()
    generator = np.random.default_rng(5)
    file = tmp_path / "damaged.tflite"
    for _ in range(150):
        data = bytearray(whole)
        for place in generator.integers(8, len(data), 3):
            data[place] = generator.integers(0, 256)
        file.write_bytes(bytes(data[: generator.integers(len(data) // 2, len(data) + 1)]))
        with contextlib.suppress(EdgewardError):
            readers.read(file)


def test_a_pickled_pytorch_model_is_never_opened(tmp_path):
    file = tmp_path / "model.pt"
    file.write_bytes(b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(Unsupported, match="pickled PyTorch"):
        readers.read(file)


@pytest.mark.skipif(TORCH, reason="torch is installed here")
def test_a_pytorch_program_names_the_extra_that_reads_it(tmp_path):
    (tmp_path / "model.pt2").write_bytes(b"PK")
    with pytest.raises(Unsupported) as caught:
        readers.read(tmp_path / "model.pt2")
    assert "edgeward[train]" in (caught.value.hint or "")


@pytest.mark.skipif(not TORCH, reason="torch is not installed: pip install 'edgeward[train]'")
@pytest.mark.slow
def test_a_pytorch_program_is_read_with_the_same_answers(tmp_path):
    import torch

    program = torch.export.export(
        torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval(), (torch.ones(1, 4),)
    )
    torch.export.save(program, tmp_path / "model.pt2")
    found = readers.read(tmp_path / "model.pt2")
    session = runtimes.load("onnxruntime").load(found.model.SerializeToString(), threads=1)
    name = session.inputs[0].name
    assert "the same best output on 1 of 1" in parity.prove(found.original, session, [{name: np.ones(4, np.float32)}])


KERAS = importlib.util.find_spec("keras") is not None and TORCH
needs_keras = pytest.mark.skipif(not KERAS, reason="keras or torch is not installed: pip install 'edgeward[keras]'")


@pytest.mark.skipif(KERAS, reason="keras is installed here")
def test_a_keras_model_names_the_extra_that_reads_it(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"PK\x03\x04")
    with pytest.raises(Unsupported) as caught:
        readers.read(tmp_path / "model.keras")
    assert "edgeward[keras]" in (caught.value.hint or "")


@needs_keras
@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_keras_model_is_read_with_the_same_answers_and_a_free_batch(suffix, tmp_path):
    readers.load("keras")  # before keras itself: it starts on the first backend that it is given
    import keras

    image = keras.Input((8, 10, 3))
    hidden = keras.layers.Conv2D(4, 3, padding="same", strides=2, activation="relu")(image)
    hidden = keras.layers.GlobalAveragePooling2D()(keras.layers.DepthwiseConv2D(3)(hidden))
    keras.Model(image, keras.layers.Dense(5, "softmax")(hidden)).save(tmp_path / f"model{suffix}")
    found = readers.read(tmp_path / f"model{suffix}")
    session = runtimes.load("onnxruntime").load(found.model.SerializeToString(), threads=1)
    values = np.random.default_rng(0).normal(size=(8, 10, 3)).astype(np.float32)
    name = session.inputs[0].name
    assert "the same best output on 1 of 1" in parity.prove(found.original, session, [{name: values}])
    assert session.run({name: np.stack([values] * 3)})[0].shape == (3, 5)


@needs_keras
@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_python_code_inside_a_keras_model_is_never_run(suffix, tmp_path):
    readers.load("keras")
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2)])
    model.save(tmp_path / f"model{suffix}")
    with pytest.raises(Unsupported, match="Lambda"):
        readers.read(tmp_path / f"model{suffix}")


@needs_keras
@pytest.mark.slow
@pytest.mark.parametrize("data", [b"", b"hello", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04" + bytes(90)])
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_what_is_no_keras_model_is_refused_in_one_sentence(data, suffix, tmp_path):
    file = tmp_path / f"bad{suffix}"
    file.write_bytes(data)
    with pytest.raises(WrongInput, match="Keras model") as caught:
        readers.read(file)
    assert "\n" not in caught.value.message


class _Writer:
    """Once unpickled, it has written a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.write_text, (self.file, "owned")


@pytest.mark.skipif(not TORCH, reason="torch is not installed: pip install 'edgeward[train]'")
@pytest.mark.slow
@pytest.mark.parametrize("place", ["sample inputs", "opaque constant"])
def test_pickled_code_inside_a_pytorch_program_is_never_run(place, tmp_path):
    import torch

    program = torch.export.export(torch.nn.Linear(4, 3).eval(), (torch.ones(1, 4),))
    torch.export.save(program, tmp_path / "good.pt2")
    written, code = tmp_path / "owned", io.BytesIO()
    torch.save(_Writer(written), code)
    entry = {"path_name": "opaque_obj_0", "use_pickle": True, "is_param": False, "tensor_meta": None}
    with zipfile.ZipFile(tmp_path / "good.pt2") as good, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as bad:
        for name in good.namelist():
            data = good.read(name)
            if place == "sample inputs" and "sample_inputs" in name:
                data = code.getvalue()
            if place == "opaque constant" and name.endswith("constants_config.json"):
                data = json.dumps({"config": {"c": entry}}).encode()
                bad.writestr(name.rpartition("/")[0] + "/opaque_obj_0", pickle.dumps(_Writer(written)))
            bad.writestr(name, data)
    with pytest.raises(Refused, match="pickled objects"):
        readers.read(tmp_path / "bad.pt2")
    assert not written.exists()


DATA = Path(__file__).parents[4] / "shared" / "data"


def _photographs(count: int) -> list[np.ndarray]:
    with tarfile.open(DATA / "cifar10-evaluation.tar") as archive:
        members = [member for member in archive if member.isfile() and member.name.endswith((".jpg", ".jpeg"))]
        chosen = members[:: len(members) // count][:count]
        return [np.asarray(Image.open(archive.extractfile(one)).convert("RGB"), np.float32) for one in chosen]


@pytest.mark.skipif(not DATA.is_dir(), reason="the real models are not here: ../shared/data")
@pytest.mark.parametrize("name", ["resnet8-float", "resnet8-int8-reference"])
def test_mlperf_tinys_image_classifier_is_read_with_parity_on_photographs(name):
    found = readers.read(DATA / "mlperf-tiny" / f"{name}.tflite")
    assert found.is_quantized == ("int8" in name)
    session = runtimes.load("onnxruntime").load(found.model.SerializeToString(), threads=1)
    samples = [{session.inputs[0].name: photograph} for photograph in _photographs(64)]
    note = parity.prove(found.original, session, samples, is_quantized=found.is_quantized)
    assert int(note.split("best output on ")[1].split()[0]) >= 62


@pytest.mark.skipif(not DATA.is_dir(), reason="the real models are not here: ../shared/data")
def test_a_quantised_model_whose_weights_are_not_the_originals_fails_all_the_same():
    found = readers.read(DATA / "mlperf-tiny" / "resnet8-int8-reference.tflite")
    for tensor in found.model.graph.initializer:
        if len(tensor.dims) == 4 and tensor.dims[2:] == [3, 3]:
            turned = onnx.numpy_helper.to_array(tensor)[:, :, ::-1]
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(turned), tensor.name))
    session = runtimes.load("onnxruntime").load(found.model.SerializeToString(), threads=1)
    samples = [{session.inputs[0].name: photograph} for photograph in _photographs(32)]
    with pytest.raises(Failed, match="answers differ"):
        parity.prove(found.original, session, samples, is_quantized=True)
