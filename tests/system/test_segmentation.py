"""A segmenter is optimised under a gate on its mean IoU, by the command itself, from a folder of images and masks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from PIL import Image

SIDE = 64
TEXT = f"""<ir_version: 8, opset_import: ["": 17]>
segmenter (float[batch,3,{SIDE},{SIDE}] image) => (float[batch,3,16,16] scores) {{
  seen = Conv <strides = [4, 4], kernel_shape = [4, 4]> (image, seen_w)
  used = Relu (seen)
  scores = Conv (used, score_w, score_b)
}}"""


def segmenter() -> onnx.ModelProto:
    """Ground, red or green, in cells of 4 × 4 pixels."""
    model = parser.parse_model(TEXT)
    colours = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
    constants = {
        "seen_w": colours[:, :, None, None] * np.full((4, 4), 1 / 16),
        "score_w": np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])[:, :, None, None],
        "score_b": np.array([0.2, 0.0, 0.0]),
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()
    )
    return model


def write(folder: Path, count: int, seed: int) -> None:
    """Red and green rectangles over noise, aligned to the cells, with their masks."""
    generator = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(count):
        pixels = generator.integers(0, 30, (SIDE, SIDE, 3)).astype(np.uint8)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for label in (1, 2):
            top, left = generator.integers(0, 8, 2) * 4
            high, wide = generator.integers(3, 9, 2) * 4
            pixels[top : top + high, left : left + wide] = 0
            pixels[top : top + high, left : left + wide, label - 1] = generator.integers(170, 255)
            mask[top : top + high, left : left + wide] = label
        Image.fromarray(pixels).save(folder / "images" / f"{number:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:02}.png")


@pytest.mark.slow
def test_a_segmenter_is_optimised_and_its_bundle_scores_as_the_report_says(tmp_path):
    pytest.importorskip("onnxruntime")
    onnx.save(segmenter(), tmp_path / "model.onnx")
    write(tmp_path / "evaluation", 24, 0)
    write(tmp_path / "calibration", 16, 1)
    (tmp_path / "steps.toml").write_text(
        '[[preprocess]]\ntype = "normalize"\n[[preprocess]]\ntype = "to_layout"\nlayout = "NCHW"\n'
    )
    home = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_CONFIG_HOME": str(tmp_path / "config")}

    def told(*words: str) -> dict:
        command = [sys.executable, "-m", "edgeward", *words, "--json"]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **home}, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    report = told(
        "optimize", "model.onnx", "--data", "evaluation", "--calibration", "calibration", "--preprocess", "steps.toml",
        "--threads", "1", "--time-limit", "40s", "-o", "out",
    )  # fmt: skip
    assert report["metric"] == "miou"
    assert report["baseline"]["quality"]["miou"] > 0.99
    assert report["chosen"]["quality_drop"] <= 0.01
    scored = told("evaluate", "out/bundle", "--data", "evaluation", "--metric", "miou")["value"]
    assert scored == pytest.approx(report["chosen"]["quality"]["miou"], abs=1e-6)
