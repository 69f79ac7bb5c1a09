"""Pruning makes a model smaller in shape; without PyTorch it says what to install."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
TORCH = importlib.util.find_spec("torch") is not None
WITH_TORCH = pytest.mark.skipif(not TORCH, reason="torch is not installed: pip install 'edgeward[train]'")


def prune(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeward", "prune", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


@pytest.mark.skipif(TORCH, reason="torch is installed here")
def test_without_torch_the_extra_is_named(tmp_path):
    done = prune(DIGITS / "digits.onnx", "--data", DIGITS / "calibration.npz", "-o", tmp_path / "out")
    assert done.returncode == 4
    assert "edgeward[train]" in done.stderr
    assert not (tmp_path / "out").exists()


@WITH_TORCH
@pytest.mark.slow
def test_channels_leave_and_the_model_still_answers(tmp_path):
    done = prune(
        DIGITS / "digits.onnx", "--data", DIGITS / "evaluation.npz", "--preprocess", DIGITS / "preprocess.toml",
        "--keep", "0.5", "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["macs_after"] <= 0.5 * result["macs_before"]
    before, after = (onnx.load(file) for file in (DIGITS / "digits.onnx", tmp_path / "out" / "model.onnx"))
    assert after.ByteSize() < 0.8 * before.ByteSize()
    assert max(result["scores"][2:]) > 0.8


@WITH_TORCH
@pytest.mark.slow
def test_samples_without_classes_are_told(tmp_path):
    np.savez(tmp_path / "train.npz", image=np.zeros((200, 8, 8, 1), np.uint8))
    done = prune(DIGITS / "digits.onnx", "--data", tmp_path / "train.npz", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
