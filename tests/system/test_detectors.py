"""A detector from its file to boxes of a picture: optimize, run, evaluate, pack, serve, by the commands themselves."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from PIL import Image

from detector_models import SIDE, detector, scenes

NAMES = ("red square", "green square")
STEPS = f"""
[[preprocess]]
type = "resize"
height = {SIDE}
width = {SIDE}
keep_aspect = true
[[preprocess]]
type = "normalize"
[[preprocess]]
type = "to_layout"
layout = "NCHW"
"""
READING = """
[[postprocess]]
type = "detect"
layout = "columns"
box_format = "cxcywh"
score_threshold = 0.7
"""


class Case(NamedTuple):
    """A folder with model.onnx, evaluation/, calibration/ and steps.toml, and the environment of its commands."""

    folder: Path
    environment: dict[str, str]

    def edgeward(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgeward", *map(str, words)]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=250, check=False
        )

    def json(self, *words: str | Path) -> dict:
        done = self.edgeward(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("detector")
    onnx.save(detector(), folder / "model.onnx")
    (folder / "steps.toml").write_text(STEPS + READING)
    (folder / "labels.txt").write_text("\n".join(NAMES))
    for seed, (name, count) in enumerate((("evaluation", 40), ("calibration", 24))):
        _write(folder / name, count, seed)
    home = {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_CONFIG_HOME": str(folder / "config"), "COLUMNS": "100"}
    return Case(folder, {**os.environ, **home})


def _write(folder: Path, count: int, seed: int) -> None:
    (folder / "images").mkdir(parents=True)
    samples, boxes, classes = scenes(count, seed)
    annotations = []
    for number, sample in enumerate(samples):
        Image.fromarray(sample["image"]).save(folder / "images" / f"{number:03}.png")
        for (left, top, right, bottom), label in zip(boxes[number].tolist(), classes[number].tolist(), strict=True):
            if label >= 0:
                box = [left, top, right - left, bottom - top]
                annotations.append({"image_id": number, "category_id": label, "bbox": box, "iscrowd": 0})
    images = [{"id": number, "file_name": f"{number:03}.png"} for number in range(count)]
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES)]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "annotations.json").write_text(text)


@pytest.fixture(scope="module")
def wide_picture(case) -> Path:
    """A green square of 64 × 64 at 320, 192 in a picture twice as wide as the model takes, and half as high again."""
    pixels = np.full((384, 512, 3), 12, np.uint8)
    pixels[192:256, 320:384] = (0, 240, 0)
    Image.fromarray(pixels).save(case.folder / "wide.png")
    return case.folder / "wide.png"


@pytest.fixture(scope="module")
def bundle(case) -> Path:
    assert case.edgeward(
        "pack", "model.onnx", "--preprocess", "steps.toml", "--labels", "labels.txt", "-o", "packed"
    ).returncode == 0  # fmt: skip
    assert case.edgeward("sign", "packed").returncode == 0
    return case.folder / "packed"


def test_boxes_are_told_in_pixels_of_the_picture_as_it_is(case, bundle, wide_picture):
    told = case.json("run", bundle, "-i", wide_picture)
    assert len(told["boxes"]) == 1
    box = told["boxes"][0]
    assert (box["label"], box["index"]) == ("green square", 1)
    assert box["score"] > 0.9
    assert [box[side] for side in ("x1", "y1", "x2", "y2")] == pytest.approx([320, 192, 384, 256], abs=0.5)


def test_a_person_reads_what_was_found_and_where(case, bundle, wide_picture):
    done = case.edgeward("run", bundle, "-i", wide_picture)
    assert "green square 320,192–384,256" in done.stdout


def test_a_picture_with_nothing_in_it_has_an_empty_list_of_boxes(case, bundle):
    Image.new("RGB", (100, 60), (9, 9, 9)).save(case.folder / "dark.png")
    assert case.json("run", bundle, "-i", "dark.png")["boxes"] == []
    assert "nothing found" in case.edgeward("run", bundle, "-i", "dark.png").stdout


def test_a_box_ends_where_the_picture_ends(case, bundle):
    pixels = np.full((256, 240, 3), 12, np.uint8)
    pixels[:, 224:] = (240, 0, 0)
    Image.fromarray(pixels).save(case.folder / "edge.png")
    for box in case.json("run", bundle, "-i", "edge.png")["boxes"]:
        assert 0 <= box["x1"] < box["x2"] <= 240
        assert 0 <= box["y1"] < box["y2"] <= 256


def test_top_is_refused_since_there_are_no_classes(case, bundle, wide_picture):
    done = case.edgeward("run", bundle, "-i", wide_picture, "--top", "2")
    assert done.returncode == 2
    assert "names no classes" in done.stderr


def test_a_bundle_with_its_classes_in_another_order_is_judged_by_their_names(case):
    swapped = detector()
    for tensor in swapped.graph.initializer:
        if tensor.name == "score_w":
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)[::-1].copy(), "score_w"))
    onnx.save(swapped, case.folder / "swapped.onnx")
    (case.folder / "swapped.txt").write_text("\n".join(reversed(NAMES)))
    assert case.edgeward(
        "pack", "swapped.onnx", "--preprocess", "steps.toml", "--labels", "swapped.txt", "-o", "swapped"
    ).returncode == 0  # fmt: skip
    assert case.edgeward("sign", "swapped").returncode == 0
    assert case.json("evaluate", "swapped", "--data", "evaluation", "--metric", "map50")["value"] > 0.99


def test_the_service_answers_with_boxes_and_names(case, bundle, wide_picture):
    command = [sys.executable, "-m", "edgeward", "serve", str(bundle), "--port", "0"]
    server = subprocess.Popen(command, env=case.environment, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        url = server.stderr.readline().split()[-1]
        pixels = np.asarray(Image.open(wide_picture).resize((128, 96)))
        two = np.stack([pixels, np.full_like(pixels, 9)])
        for frames, found in ((pixels[None], [1]), (two, [1, 0])):
            answer = _asked(url, frames)
            assert set(answer) == {"boxes", "labels"}
            assert answer["boxes"]["shape"] == [len(frames), 1, 6]
            first = answer["boxes"]["data"][:6]
            assert first == pytest.approx([80, 48, 96, 64, first[4], 1], abs=0.5)
            assert [name != "" for name in answer["labels"]["data"]] == [count == 1 for count in found]
            assert answer["labels"]["data"][0] == "green square"
        assert set(_asked(url, pixels[None], "detections")) == {"detections"}
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)


def _asked(url: str, frames: np.ndarray, *outputs: str) -> dict[str, dict]:
    given = {"name": "image", "shape": frames.shape, "datatype": "UINT8", "data": frames.ravel().tolist()}
    body = {"inputs": [given], **({"outputs": [{"name": name} for name in outputs]} if outputs else {})}
    request = urllib.request.Request(f"{url}/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as reply:
        return {one["name"]: one for one in json.load(reply)["outputs"]}


@pytest.mark.slow
@pytest.mark.parametrize("said", [STEPS + READING, STEPS], ids=["said", "found"])
def test_an_optimised_detector_answers_with_boxes(case, wide_picture, tmp_path, said):
    (tmp_path / "steps.toml").write_text(said)
    out = tmp_path / "out"
    report = case.json(
        "optimize", "model.onnx", "--data", "evaluation", "--calibration", "calibration", "--metric", "map50",
        "--preprocess", tmp_path / "steps.toml", "--threads", "1", "--time-limit", "60s", "-o", out,
    )  # fmt: skip
    assert report["chosen"]["quality"]["map50"] > 0.98
    assert any("boxes are read as columns, cxcywh in pixels" in note for note in report["notes"]) == (said == STEPS)
    told = case.json("run", out / "bundle", "-i", wide_picture)
    assert [box["label"] for box in told["boxes"]] == ["green square"]
    assert [told["boxes"][0][side] for side in ("x1", "y1", "x2", "y2")] == pytest.approx([320, 192, 384, 256], abs=3)
    assert case.json("evaluate", out / "bundle", "--data", "evaluation", "--metric", "map50")["value"] > 0.98


@pytest.mark.parametrize(
    ("layout", "told"),
    [("pair", "a pair of boxes and scores is"), ("rows", "there are 2 labels")],
    ids=["pair", "rows"],
)
def test_a_form_that_the_model_does_not_have_is_refused_when_it_is_packed(case, tmp_path, layout, told):
    (tmp_path / "steps.toml").write_text(STEPS + READING.replace("columns", layout))
    done = case.edgeward(
        "pack", "model.onnx", "--preprocess", tmp_path / "steps.toml", "--labels", "labels.txt", "-o", tmp_path / "no"
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "no").exists()


def test_names_for_more_classes_than_there_are_stop_an_optimisation_before_it_works(case, tmp_path):
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    done = case.edgeward(
        "optimize", "model.onnx", "--data", "evaluation", "--calibration", "calibration", "--preprocess", "steps.toml",
        "--labels", tmp_path / "labels.txt", "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 2
    assert "there are 3 names; read so, the boxes have 2 classes" in done.stderr
    assert not (tmp_path / "out").exists()
