"""TensorFlow's SavedModels: read where TensorFlow is, told in one sentence where it is not."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pytest

from edgeward.kit.errors import EdgewardError, Refused, Unsupported, WrongInput
from edgeward.optimize import readers

NAMED = os.environ.get("EDGEWARD_TENSORFLOW_PYTHON")
HERE = importlib.util.find_spec("tensorflow") is not None
WITH_TENSORFLOW = pytest.mark.skipif(
    not HERE and NAMED is None,
    reason="there is no TensorFlow: pip install 'edgeward[tensorflow]', or EDGEWARD_TENSORFLOW_PYTHON names one",
)

MAKE = """
import sys
import numpy as np, tensorflow as tf
kind, folder = sys.argv[1:]
if kind == "keras":
    given = tf.keras.Input((12, 12, 3), name="picture")
    made = tf.keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(given)
    made = tf.keras.layers.DepthwiseConv2D(3, padding="same")(tf.keras.layers.BatchNormalization()(made))
    made = tf.keras.layers.Dense(5, activation="softmax")(tf.keras.layers.GlobalAveragePooling2D()(made))
    tf.keras.Model(given, made).export(folder)
else:
    class Two(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32, name=n) for n in "ab"])
        def answer(self, a, b):
            if kind == "writer":
                tf.io.write_file(folder + "-owned", "x")
            return {"sum": a + b, "product": tf.nn.relu(a) * b}
    two = Two()
    tf.saved_model.save(two, folder, signatures=two.answer)
"""


def made(kind, folder):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [NAMED or sys.executable, "-c", MAKE, kind, str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=250, env=environment)
    return folder


@WITH_TENSORFLOW
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keras", "two inputs and outputs"])
def test_the_onnx_answers_as_tensorflow_does(kind, tmp_path):
    found = readers.read(made(kind, tmp_path / "model"))
    session = ort.InferenceSession(found.model.SerializeToString())
    generator = np.random.default_rng(0)
    feeds = {
        node.name: generator.normal(0, 1, [d if isinstance(d, int) else 1 for d in node.shape]).astype(np.float32)
        for node in session.get_inputs()
    }
    for mine, wanted in zip(session.run(None, feeds), found.original(feeds), strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-5)


@WITH_TENSORFLOW
@pytest.mark.slow
def test_a_saved_model_that_writes_files_is_refused_and_writes_none(tmp_path):
    folder = made("writer", tmp_path / "model")
    with pytest.raises(Refused, match="WriteFile"):
        readers.read(folder)
    assert not (tmp_path / "model-owned").exists()


@WITH_TENSORFLOW
@pytest.mark.slow
def test_a_damaged_saved_model_is_told(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01 this is none")
    with pytest.raises(EdgewardError, match="TensorFlow cannot"):
        readers.read(tmp_path)


@pytest.mark.skipif(HERE, reason="TensorFlow is installed here")
def test_without_tensorflow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGEWARD_TENSORFLOW_PYTHON", raising=False)
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(Unsupported, match="TensorFlow") as caught:
        readers.read(tmp_path)
    assert "edgeward[tensorflow]" in (caught.value.hint or "")


@pytest.mark.parametrize("python", ["/nowhere/python", sys.executable])
def test_an_interpreter_that_cannot_help_is_told(python, tmp_path, monkeypatch):
    if HERE and python == sys.executable:
        pytest.skip("TensorFlow is installed here")
    monkeypatch.setenv("EDGEWARD_TENSORFLOW_PYTHON", python)
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(EdgewardError, match=r"EDGEWARD_TENSORFLOW_PYTHON|TensorFlow"):
        readers.read(tmp_path)


@pytest.mark.parametrize("name", ["WriteFile", "ReadFile", "EagerPyFunc"])
def test_operators_that_reach_beyond_the_model_are_refused_before_anything_is_loaded(name, tmp_path):
    node = b"\x0a\x01n\x12" + bytes([len(name)]) + name.encode()
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01" + node)
    with pytest.raises(Refused, match=name):
        readers.read(tmp_path)


def test_an_empty_saved_model_is_told(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(WrongInput, match="empty"):
        readers.read(tmp_path)
