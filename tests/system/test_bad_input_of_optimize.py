"""Bad input to `edgeward optimize` by the real command: one sentence, the right exit code, nothing left behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def optimize(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeward", "optimize", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def assert_told(finished: subprocess.CompletedProcess[str], code: int, words: str) -> None:
    told = [line for line in finished.stderr.splitlines() if line.startswith("edgeward: ")]
    assert (finished.returncode, len(told)) == (code, 1), finished.stderr
    assert words in told[0]
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""


def digits(tmp_path: Path, **changed: object) -> Path:
    with np.load(DIGITS / "evaluation.npz") as file:
        arrays = {name: file[name] for name in file.files} | changed
    np.savez(tmp_path / "data.npz", **{name: value for name, value in arrays.items() if value is not None})
    return tmp_path / "data.npz"


def unknown_operator() -> bytes:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Frobnicate", ["x"], ["y"])], "g", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (None, 2, "no such model file"),
        (b"", 2, "this file is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), 2, "this is a PNG image"),
        (b"just some text", 2, "no ONNX model"),
        ((DIGITS / "digits.onnx").read_bytes()[:5000], 2, "truncated"),
        (unknown_operator(), 4, "the operator Frobnicate"),
    ],
    ids=["missing", "empty", "png", "text", "truncated", "unknown-operator"],
)
def test_a_bad_model(tmp_path, content, code, words):
    model = tmp_path / "model.onnx"
    if content is not None:
        model.write_bytes(content)
    assert_told(optimize(model, "--data", DIGITS / "evaluation.npz", "-o", tmp_path / "out"), code, words)
    assert not (tmp_path / "out").exists()


RAW = np.zeros((30, 8, 8, 1), np.uint8)
NAN = np.zeros((30, 1, 8, 8), np.float32)
NAN[7] = np.nan


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"image": None, "foo": RAW}, "the model's input is 'image'"),
        ({"image": RAW[:, :5], "labels": np.arange(30) % 10}, "wants 1x8x8 per sample, got 1x5x8"),
        ({"image": NAN, "labels": np.arange(30) % 10}, "not finite (NaN or infinity), in sample 7"),
        ({"labels": np.arange(3)}, "500 samples but labels of length 3"),
        ({"labels": np.zeros(500, np.int64)}, "all 400 labels are class 0"),
        ({"labels": np.arange(500)}, "the model knows classes 0..9"),
    ],
    ids=["name", "shape", "nan", "label-count", "one-class", "unknown-class"],
)
def test_bad_data(tmp_path, changed, words):
    finished = optimize(
        DIGITS / "digits.onnx", "--data", digits(tmp_path, **changed),
        "--preprocess", DIGITS / "preprocess.toml", "-o", tmp_path / "out",
    )  # fmt: skip
    assert_told(finished, 2, words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz"]


def free_sides() -> bytes:
    model = onnx.load(DIGITS / "digits.onnx")
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "side"
    del model.graph.value_info[:]
    return model.SerializeToString()


def test_free_height_and_width_are_told_with_the_option_that_fixes_them(tmp_path):
    (tmp_path / "free.onnx").write_bytes(free_sides())
    finished = optimize(tmp_path / "free.onnx", "--data", DIGITS / "evaluation.npz", "-o", tmp_path / "out")
    assert_told(finished, 2, "must be fixed")
    assert "--shape image=1x" in finished.stderr


def test_an_output_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    finished = optimize(DIGITS / "digits.onnx", "--data", DIGITS / "evaluation.npz", "-o", tmp_path / "out")
    assert_told(finished, 2, "exists and is not empty")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_budget_that_nothing_keeps_names_the_nearest_and_leaves_the_report(tmp_path):
    finished = optimize(
        DIGITS / "digits.onnx", "--data", DIGITS / "evaluation.npz", "--preprocess", DIGITS / "preprocess.toml",
        "--budget", "p50<0.0001ms", "--time-limit", "2s", "-o", tmp_path / "out",
    )  # fmt: skip
    assert_told(finished, 3, "the nearest is ")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [("--budget", "speed<1", 2), ("--metric", "luck", 2), ("--time-limit", "soon", 2),
     ("--shape", "image=big", 2), ("--target", "no host", 2)],
)  # fmt: skip
def test_a_bad_option(tmp_path, option, value, code):
    finished = optimize(
        DIGITS / "digits.onnx", "--data", DIGITS / "evaluation.npz", option, value, "-o", tmp_path / "out"
    )
    assert_told(finished, code, value.split("=")[0].split("<")[0])
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_nothing_behind(tmp_path):
    command = [
        sys.executable,
        "-m",
        "edgeward",
        "optimize",
        DIGITS / "digits.onnx",
        "--data",
        DIGITS / "evaluation.npz",
    ]
    command += ["--preprocess", DIGITS / "preprocess.toml", "-o", tmp_path / "out"]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL)
    for line in process.stderr:
        if "int8" in line:
            break
    assert any(tmp_path.iterdir()), "the work is under way"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "edgeward: stopped" in told
    assert list(tmp_path.iterdir()) == []
