"""`edgeward profile`, as a person starts it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper

from edgeward.cli.main import main
from edgeward.records.profile import ModelProfile

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits"


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def edgeward(tmp_path, monkeypatch, capfd):
    """Runs the command line with a configuration of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))

    def run(*arguments):
        with monkeypatch.context() as during:
            during.setattr(sys, "argv", ["edgeward", *map(str, arguments)])
            with pytest.raises(SystemExit) as end:
                main()
        return Done(int(end.value.code or 0), *capfd.readouterr())

    return run


def save(path, *nodes, shape=(1, 4)):
    info = helper.make_tensor_value_info
    graph = helper.make_graph(list(nodes), "g", [info("x", 1, shape)], [info("y", 1, shape)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def one_sentence(done, code, *words):
    assert done.code == code, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


def test_what_is_no_requirement_is_refused_before_anything_runs(edgeward):
    one_sentence(edgeward("profile", EXAMPLE / "digits.onnx", "--require", "cpu=90"), 2, "cpu=90", "wanted WHERE")


def test_files_that_are_no_models_are_told_so(edgeward, tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")
    one_sentence(edgeward("profile", "empty.onnx"), 2, "empty")
    whole = (EXAMPLE / "digits.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    one_sentence(edgeward("profile", "cut.onnx"), 2, "cut.onnx")
    (tmp_path / "cut.tflite").write_bytes(b"TFL3 and nothing else")
    assert edgeward("profile", "cut.tflite").code in (2, 4)


def test_a_free_dimension_besides_the_batch_wants_data(edgeward, tmp_path):
    free = save(tmp_path / "free.onnx", helper.make_node("Abs", ["x"], ["y"]), shape=("batch", "length"))
    one_sentence(edgeward("profile", free), 2, "free in more than the batch", "--data")


def test_a_runtime_of_another_format_is_refused(edgeward):
    done = edgeward("profile", EXAMPLE / "digits.onnx", "--runtime", "litert")
    assert done.code in (2, 4), done.err
    assert "Traceback" not in done.err


def test_an_output_that_cannot_be_written_is_told_before_the_work(edgeward, tmp_path):
    (tmp_path / "file").write_text("here")
    one_sentence(edgeward("profile", EXAMPLE / "digits.onnx", "-o", "file"), 2, "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("here")
    one_sentence(edgeward("profile", EXAMPLE / "digits.onnx", "-o", "full"), 2, "not empty")


@pytest.mark.slow
def test_the_folder_has_every_file_and_json_is_one_document(edgeward, tmp_path):
    done = edgeward("profile", EXAMPLE / "digits.onnx", "--seconds", 0.3, "-o", "out", "--json", "--require", "cpu:99%")
    assert done.code == 0, done.err
    told = msgspec.json.decode(done.out, type=ModelProfile)
    assert told.requirements[0].met
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "profile.json", "layers.csv", "trace.json", "roofline.svg"}
    assert msgspec.json.decode((tmp_path / "out/profile.json").read_bytes(), type=ModelProfile).digest == told.digest
    assert json.loads((tmp_path / "out/trace.json").read_text())["traceEvents"]


@pytest.mark.slow
def test_a_missed_requirement_ends_with_three_and_names_the_layers(edgeward):
    done = edgeward("profile", EXAMPLE / "digits.onnx", "--seconds", 0.3, "--require", "npu:95%")
    assert done.code == 3
    assert "wanted 95 %; elsewhere:" in done.err
    assert "CPU float32" in done.err
    assert max(map(len, done.out.split("\n\n")[0].splitlines()[:12])) <= 80


@pytest.mark.slow
def test_data_with_nan_are_told(edgeward, tmp_path):
    save(tmp_path / "abs.onnx", helper.make_node("Abs", ["x"], ["y"]))
    np.savez(tmp_path / "nan.npz", x=np.full((3, 4), np.nan, np.float32))
    done = edgeward("profile", "abs.onnx", "--data", "nan.npz", "--seconds", 0.2)
    assert "Traceback" not in done.err
    assert done.code == 2 or "not finite" in done.out


@pytest.mark.slow
def test_a_stop_leaves_nothing_half_written(tmp_path):
    command = [
        sys.executable,
        "-m",
        "edgeward",
        "profile",
        str(EXAMPLE / "digits.onnx"),
        "--seconds",
        "30",
        "-o",
        "out",
    ]
    started = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    for _ in range(100):
        if list(tmp_path.glob(".out.partial-*")):
            break
        time.sleep(0.1)
    time.sleep(1.0)
    os.kill(started.pid, signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130, said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("perf") is None, reason="perf is not installed: apt-get install linux-perf")
def test_the_flame_graph_has_frames_of_the_runtime(edgeward, tmp_path):
    done = edgeward("profile", EXAMPLE / "digits.onnx", "--seconds", 0.5, "--flame", "-o", "out")
    if done.code == 4:
        pytest.skip(done.err)
    assert done.code == 0, done.err
    drawn = (tmp_path / "out/flame.svg").read_text()
    assert "onnxruntime" in drawn
    assert "<script" not in drawn
