"""Quantisation-aware training wins back what few bits lose; without PyTorch it says what to install."""

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
TORCH = importlib.util.find_spec("torch") is not None
WITH_TORCH = pytest.mark.skipif(not TORCH, reason="torch is not installed: pip install 'edgeward[train]'")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgeward", "qat", *map(str, arguments)]


def qat(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=280)


def digits(*arguments: object) -> tuple[object, ...]:
    preprocess = ("--preprocess", DIGITS / "preprocess.toml")
    return (DIGITS / "digits.onnx", "--data", DIGITS / "evaluation.npz", *preprocess, *arguments)


@pytest.mark.skipif(TORCH, reason="torch is installed here")
def test_without_torch_the_extra_is_named(tmp_path):
    done = qat(*digits("-o", tmp_path / "out"))
    assert done.returncode == 4
    assert "edgeward[train]" in done.stderr
    assert not (tmp_path / "out").exists()


@WITH_TORCH
@pytest.mark.slow
def test_weights_of_three_bits_learn_their_answers_back(tmp_path):
    done = qat(*digits("--weight-bits", 3, "--per-tensor", "--epochs", 8, "-o", tmp_path / "out", "--json"))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["measure"] == "top1"
    assert max(result["scores"]) >= result["scores"][0]
    model = onnx.load(tmp_path / "out" / "model.onnx")
    onnx.checker.check_model(model)
    kernels = [numpy_helper.to_array(one) for one in model.graph.initializer if len(one.dims) in (2, 4)]
    assert kernels
    for kernel in kernels:
        if kernel.dtype == np.float32:
            assert len(np.unique(kernel)) <= 7  # -3 to 3 steps


@WITH_TORCH
@pytest.mark.slow
def test_without_labels_the_teacher_alone_teaches(tmp_path):
    given = np.load(DIGITS / "evaluation.npz")
    np.savez(tmp_path / "train.npz", **{name: given[name] for name in given.files if name != "labels"})
    done = qat(
        DIGITS / "digits.onnx", "--data", tmp_path / "train.npz", "--preprocess", DIGITS / "preprocess.toml",
        "--epochs", 1, "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["measure"] in ("agreement", "sqnr_db")


@WITH_TORCH
@pytest.mark.slow
def test_ctrl_c_keeps_the_best_epoch_and_leaves_nothing_else(tmp_path):
    process = subprocess.Popen(
        command(*digits("--epochs", 1000, "-o", tmp_path / "out", "--json")),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stderr:
        if "epoch 3 of" in line:
            process.send_signal(signal.SIGINT)
            break
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    assert json.loads(out)["stopped"] is True
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["model.onnx", "out", "qat.json"]


@WITH_TORCH
@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "told"),
    [({"image": np.zeros((20, 8, 8, 1), np.uint8)}, "too few"), ({"other": np.zeros((20, 3))}, "has other")],
)
def test_bad_samples_are_told(tmp_path, changed, told):
    np.savez(tmp_path / "train.npz", **changed)
    done = qat(DIGITS / "digits.onnx", "--data", tmp_path / "train.npz", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
