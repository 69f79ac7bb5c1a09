"""`edgeward run NAME` on a pipeline that follows its answers, as a person starts it."""

import json
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from edgeward.cli.main import main

HEIGHT, WIDTH = 64, 96
SPOT = """<ir_version: 8, opset_import: ["": 17]>
spot (float[batch,64,96,1] image) => (float[batch,1,5] found) {
  axes = Constant <value = int64[2] {1, 2}> ()
  light = ReduceSum <keepdims = 0> (image, axes)
  by_x = Mul (image, columns)
  sum_x = ReduceSum <keepdims = 0> (by_x, axes)
  x = Div (sum_x, light)
  by_y = Mul (image, rows)
  sum_y = ReduceSum <keepdims = 0> (by_y, axes)
  y = Div (sum_y, light)
  none = Mul (x, zero)
  size = Add (none, side)
  score = Add (none, sure)
  row = Concat <axis = 1> (x, y, size, size, score)
  one = Constant <value = int64[1] {1}> ()
  found = Unsqueeze (row, one)
}"""
"""Finds the middle of the light in a picture: one object, so large that no pause of the machine makes it another."""

PIPELINE = """
[[pipeline]]
name = "door"
bundle = "spot"
source = { use = "replay", path = "frames.npz", rate_hz = 100, each = true }

[[pipeline.follow]]
type = "track"

[[pipeline.follow]]
type = "zones"
zones = [{ name = "right", polygon = [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]] }]

[[pipeline.follow]]
type = "lines"
lines = [{ name = "middle", start = [0.5, 1.0], end = [0.5, 0.0] }]
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs the command line beside a detector's bundle and frames of a light that goes to the right and back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))

    def edgeward(*arguments):
        with monkeypatch.context() as during:
            during.setattr(sys, "argv", ["edgeward", *map(str, arguments)])
            with pytest.raises(SystemExit) as end:
                main()
        return int(end.value.code or 0), *capfd.readouterr()

    model = parser.parse_model(SPOT)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    constants = {
        "rows": rows[None, :, :, None],
        "columns": columns[None, :, :, None],
        "zero": 0,
        "side": 50,
        "sure": 0.9,
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()
    )
    onnx.save(model, "spot.onnx")
    frames = np.zeros((40, HEIGHT, WIDTH, 1), np.uint8)
    for number, frame in enumerate(frames):
        middle = 20 + round(56 * np.sin(np.pi * number / 39))
        frame[22:42, middle - 10 : middle + 10] = 200
    np.savez("frames.npz", image=frames)
    (tmp_path / "steps.toml").write_text(
        'preprocess = [{ type = "grey" }]\n'
        'postprocess = [{ type = "detect", layout = "rows", box_format = "cxcywh" }]\n'
    )
    (tmp_path / "labels.txt").write_text("light\n")
    (tmp_path / "edgeward.toml").write_text(PIPELINE)
    packed = ("pack", "spot.onnx", "--preprocess", "steps.toml", "--labels", "labels.txt", "--data", "frames.npz")
    assert edgeward(*packed, "-o", "spot")[0] == 0
    assert edgeward("sign", "spot")[0] == 0
    return edgeward


def test_who_passes_is_numbered_and_counted_in_every_line_of_json(run):
    code, out, err = run("run", "door", "--json")
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 40
    assert [line["boxes"][0].get("track") for line in lines] == [None, *[1] * 39]
    (last,) = lines[-1]["lines"]
    assert (last["forward"], last["backward"]) == (1, 1)
    assert [line["zones"][0]["inside"] for line in lines if line["lines"][0]["crossed"]] == [1, 0]
    left = [one for line in lines for one in line["zones"][0]["left"]]
    assert len(left) == 1
    assert left[0]["dwell_s"] > 0


def test_a_person_sees_the_counts(run):
    code, out, err = run("run", "door")
    assert code == 0, err
    assert "right 0, middle 1→ 1←" in out


@pytest.mark.parametrize(
    ("was", "written", "words"),
    [
        ('"track"', '"trakc"', "edgeward.toml:8:1: follow.type: Invalid value 'trakc'"),
        ('name = "middle", ', "", "edgeward.toml:16:10: follow.lines: name is missing"),
        (
            "start = [0.5, 1.0]",
            "start = [0.5]",
            "edgeward.toml:16:29: follow.lines.start: wanted a list of length 2, got 1",
        ),
        ('[[pipeline.follow]]\ntype = "track"\n', "", "lines are crossed by tracks"),
    ],
)
def test_a_slip_in_what_follows_is_told_with_its_place(run, tmp_path, was, written, words):
    (tmp_path / "edgeward.toml").write_text(PIPELINE.replace(was, written, 1))
    code, out, err = run("run", "door")
    assert code == 2
    assert out == ""
    assert words in err
    assert "Traceback" not in err
