"""A student stands in its teacher's place; what cannot be is one sentence."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
TORCH = all(importlib.util.find_spec(name) is not None for name in ("torch", "onnxscript"))
WITH_TORCH = pytest.mark.skipif(not TORCH, reason="torch is not installed: pip install 'edgeward[train]'")


def distill(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeward", "distill", DIGITS / "digits.onnx", "--student", "ds-cnn"]
    command += ["--preprocess", DIGITS / "preprocess.toml", *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=280)


@pytest.mark.skipif(TORCH, reason="torch is installed here")
def test_without_torch_the_extra_is_named(tmp_path):
    done = distill("--data", DIGITS / "evaluation.npz", "-o", tmp_path / "out")
    assert done.returncode == 4
    assert "edgeward[train]" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_limit_that_no_student_has_is_wrong_input(tmp_path):
    done = distill("--data", DIGITS / "evaluation.npz", "--budget", "energy<1mJ", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "p50 and size" in done.stderr


@WITH_TORCH
@pytest.mark.slow
def test_a_student_takes_and_gives_what_its_teacher_does(tmp_path):
    done = distill(
        "--data", DIGITS / "evaluation.npz", "--max-macs", 300_000, "--epochs", 12, "-o", tmp_path / "out", "--json"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["macs_after"] <= 300_000
    assert max(result["scores"]) > 0.7
    teacher, student = (onnx.load(file) for file in (DIGITS / "digits.onnx", tmp_path / "out" / "model.onnx"))
    assert [value.name for value in student.graph.input] == [value.name for value in teacher.graph.input]
    assert [value.name for value in student.graph.output] == [value.name for value in teacher.graph.output]


@WITH_TORCH
@pytest.mark.slow
def test_a_budget_that_cannot_be_names_the_nearest(tmp_path):
    done = distill("--data", DIGITS / "evaluation.npz", "--max-macs", 10, "-o", tmp_path / "out")
    assert done.returncode == 3
    assert "the narrowest has" in done.stderr
    assert not (tmp_path / "out").exists()
