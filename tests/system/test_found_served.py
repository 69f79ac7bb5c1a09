"""Masks, key points and verdicts of a running service are those that `run` tells."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from onnx import parser
from PIL import Image

from edgeward.link.local import LocalClient

HEAD = '<ir_version: 8, opset_import: ["": 17]> '
MODELS = {
    "masks": HEAD + "masks (float[n,3,8,8] x) => (float[n,3,8,8] mask) { mask = Add (x, x) }",
    "points": HEAD + "points (float[n,3,8,8] x) => (float[n,3,8,8] y) { y = Identity (x) }",
    "odd": HEAD + "odd (float[n,3,8,8] x) => (float[n,1,1,1] y) { y = ReduceMean <axes = [1, 2, 3]> (x) }",
}
STEPS = """
[[preprocess]]
type = "resize"
height = 8
width = 8
[[preprocess]]
type = "normalize"
[[preprocess]]
type = "to_layout"
layout = "NCHW"
[[postprocess]]
"""
READING = {
    "masks": 'type = "segment"\nlayout = "planes"\n',
    "points": 'type = "keypoints"\nform = "heat_maps"\n',
    "odd": 'type = "anomaly"\nof = "output"\nthreshold = 0.25\n',
}
LABELS = "red\ngreen\nblue"


class Service(NamedTuple):
    url: str
    folder: Path
    pixels: np.ndarray
    edgeward: Callable[..., str]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """Runs for the models, with a picture in the folder of their bundles."""
    folder = tmp_path_factory.mktemp("found")
    home = {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_CONFIG_HOME": str(folder / "config")}

    def edgeward(*words):
        command = [sys.executable, "-m", "edgeward", *map(str, words)]
        done = subprocess.run(command, cwd=folder, env=os.environ | home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (folder / "labels.txt").write_text(LABELS)
    for name, text in MODELS.items():
        (folder / f"{name}.onnx").write_bytes(parser.parse_model(text).SerializeToString())
        (folder / f"{name}.toml").write_text(STEPS + READING[name])
        edgeward("pack", f"{name}.onnx", "--preprocess", f"{name}.toml", "--labels", "labels.txt", "-o", name)
        edgeward("sign", name)
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :, 0], pixels[8:, :12, 1], pixels[8:, 12:, 2] = 200, 150, 250
    Image.fromarray(pixels).save(folder / "picture.png")
    command = [sys.executable, "-m", "edgeward", "serve", *MODELS, "--port", "0", "--socket", "socket"]
    server = subprocess.Popen(command, cwd=folder, env=os.environ | home, stderr=subprocess.PIPE, text=True)
    try:
        url = server.stderr.readline().split()[-1].partition("/v2")[0]
        yield Service(url, folder, pixels, edgeward)
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)


def asked(url, name, frames, *outputs):
    metadata = json.load(urllib.request.urlopen(f"{url}/v2/models/{name}", timeout=60))
    (port,) = metadata["inputs"]
    given = {"name": port["name"], "shape": frames.shape, "datatype": "UINT8", "data": frames.ravel().tolist()}
    body = {"inputs": [given], **({"outputs": [{"name": one} for one in outputs]} if outputs else {})}
    request = urllib.request.Request(f"{url}/v2/models/{name}/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as reply:
        found = {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in json.load(reply)["outputs"]}
    assert set(found) <= {one["name"] for one in metadata["outputs"]}
    return found


def test_a_mask_has_the_size_of_the_picture_as_it_was_sent(service):
    url, _, pixels, edgeward = service
    found = asked(url, "masks", np.stack([pixels, pixels[::-1]]))
    assert set(found) == {"found_mask"}  # the model's own output is called mask
    mask = found["found_mask"]
    assert (mask[0] == pixels.argmax(axis=2)).all()
    assert (mask[1] == pixels[::-1].argmax(axis=2)).all()
    told = json.loads(edgeward("run", "masks", "-i", "picture.png", "--json"))
    assert {one["index"]: one["area"] for one in told["segments"]} == {
        number: int((mask[0] == number).sum()) for number in (1, 2)
    }
    assert asked(url, "masks", pixels[None], "mask")["mask"].shape == (1, 3, 8, 8)


def test_points_that_one_picture_lacks_are_filled_up(service):
    url, _, pixels, edgeward = service
    found = asked(url, "points", np.stack([pixels, np.where([True, False, False], pixels, 0).astype(np.uint8)]))
    assert set(found) == {"keypoints", "keypoint_labels"}
    told = json.loads(edgeward("run", "points", "-i", "picture.png", "--json"))["keypoints"]
    rows = [[one[field] for field in ("x", "y", "score", "index")] for one in told]
    assert found["keypoints"][0].tolist() == [pytest.approx(row, abs=1e-3) for row in rows]
    assert found["keypoint_labels"][0].tolist() == ["red", "green", "blue"]
    assert found["keypoints"][1][1:].tolist() == [[0, 0, 0, -1]] * 2
    assert found["keypoint_labels"][1].tolist() == ["red", "", ""]


def test_a_verdict_is_a_score_and_whether_it_is_too_high(service):
    url, _, pixels, edgeward = service
    found = asked(url, "odd", np.stack([pixels, pixels // 4]))
    told = json.loads(edgeward("run", "odd", "-i", "picture.png", "--json"))["anomaly"]
    assert set(found) == {"anomaly", "is_anomaly"}
    assert found["anomaly"][0] == pytest.approx(told["score"])
    assert found["is_anomaly"].tolist() == [True, False]
    assert told["is_anomaly"] is True


def test_the_socket_has_the_same(service):
    url, pixels, folder = service.url, service.pixels, service.folder
    with LocalClient(folder / "socket") as client:
        for name in MODELS:
            for output, values in asked(url, name, pixels[None]).items():
                found = client.infer(name, {"x": pixels[None]}).outputs[output]
                np.testing.assert_array_equal(found.astype(values.dtype), values)
