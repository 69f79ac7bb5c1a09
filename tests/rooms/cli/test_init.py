"""`edgeward init`, and edgeward.toml as every verb reads it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def edgeward(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "edgeward", *arguments],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"not looked at yet")
    (tmp_path / "samples").mkdir()
    return tmp_path


def said(folder, text):
    (folder / "edgeward.toml").write_text(text)


def test_init_writes_what_optimize_then_reads_and_never_overwrites_unasked(folder):
    flags = ("init", "--template", "image", "--model", "model.onnx", "--data", "samples", "--yes")
    first = edgeward(folder, *flags)
    assert first.returncode == 0, first.stderr
    assert "edgeward optimize model.onnx --data samples --metric top1 --max-drop 0.01 -o out" in first.stdout
    before = (folder / "edgeward.toml").read_text()
    again = edgeward(folder, *flags)
    assert (again.returncode, (folder / "edgeward.toml").read_text()) == (2, before)
    assert "--overwrite" in again.stderr
    assert edgeward(folder, *flags, "--overwrite", "--max-drop", "0.5").returncode == 0
    assert "max-drop = 0.5" in (folder / "edgeward.toml").read_text()
    told = edgeward(folder, "optimize").stderr
    assert "Missing" not in told
    assert "model.onnx" in told or "samples" in told


@pytest.mark.parametrize(("flags", "says"), [((), "--model is missing"), (("--model", "no.onnx"), "no.onnx: no such")])
def test_init_without_a_terminal_says_what_is_missing(folder, flags, says):
    done = edgeward(folder, "init", *flags)
    assert (done.returncode, says in done.stderr) == (2, True)
    assert not (folder / "edgeward.toml").exists()


def test_a_flag_beats_the_environment_which_beats_the_file(folder):
    said(folder, '[optimize]\nmodel = "model.onnx"\ndata = "samples"\noutput = "out"\nmetric = "of-the-file"\n')
    assert "of-the-file" in edgeward(folder, "optimize").stderr
    environment = {"EDGEWARD_OPTIMIZE_METRIC": "of-the-environment"}
    assert "of-the-environment" in edgeward(folder, "optimize", **environment).stderr
    assert "of-the-flag" in edgeward(folder, "optimize", "--metric", "of-the-flag", **environment).stderr


def test_an_argument_stands_in_the_file_by_the_name_that_help_shows(folder):
    said(folder, '[pack]\nmodel = "of-the-file.onnx"\n')
    assert "of-the-file.onnx" in edgeward(folder, "pack").stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[optimise]\n", "edgeward.toml:1: there is no verb 'optimise'"),
        ("\n[pack]\nlable = 'x'\n", "edgeward.toml:3: [pack] lable: there is no such option; allowed are data"),
        ("[pack]\noverwrite = 'yes'\n", "edgeward.toml:2: [pack] overwrite: wanted true or false, got 'yes'"),
        ("[serve]\n[pack]\nname = 3\n", "edgeward.toml:3: [pack] name: wanted text, got 3"),
        ("[pack]\nname = \n", "edgeward.toml: Invalid value (at line 2, column 8)"),
        ("\xff", "edgeward.toml"),
    ],
)
def test_a_fault_in_the_file_is_one_sentence_with_its_line(folder, text, says):
    said(folder, text)
    done = edgeward(folder, "pack", "x.onnx")
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
