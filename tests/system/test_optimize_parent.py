"""`edgeward optimize --parent`, the real command on real bundles: a small update, a sentence for every bad parent."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import models_for_tests as made
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

DIGITS = Path(__file__).parents[2] / "examples" / "digits"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A place for keys and kept trials that is these tests' own."""
    return tmp_path_factory.mktemp("home")


def edgeward(home, *arguments):
    places = {"XDG_CACHE_HOME": str(home / "cache"), "XDG_CONFIG_HOME": str(home / "config")}
    command = [sys.executable, "-m", "edgeward", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **places})


def optimised(home, model, output, *more):
    data = ("--data", DIGITS / "evaluation.npz", "--calibration", DIGITS / "calibration.npz")
    return edgeward(home, "optimize", model, *data, "--threads", "1", "-o", output, "--json", *more)


@pytest.fixture(scope="module")
def deployed(home):
    """The first version, in int8: what is float is larger than the budget."""
    told = optimised(home, DIGITS / "digits.onnx", home / "v1", "--budget", "size<150kB")
    assert told.returncode == 0, told.stderr
    return home / "v1"


@pytest.fixture(scope="module")
def next_model(home):
    """The same network with every weight moved a little, as a fine-tune moves them."""
    model = onnx.load(DIGITS / "digits.onnx")
    generator = np.random.default_rng(3)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim > 1:
            noise = generator.normal(size=values.shape) * 0.004 * np.abs(values).max()
            tensor.CopyFrom(numpy_helper.from_array((values + noise).astype(np.float32), tensor.name))
    onnx.save(model, home / "next.onnx")
    return home / "next.onnx"


def test_the_update_is_smaller_than_without_a_parent_and_the_report_says_so(home, deployed, next_model):
    told = optimised(home, next_model, home / "v2", "--parent", deployed, "--budget", "size<150kB")
    assert told.returncode == 0, told.stderr
    report = json.loads(told.stdout)
    bound = [trial for trial in report["trials"] if trial["recipe"].endswith("-parent") and not trial["failure"]]
    plain = [t for t in report["trials"] if t["runtime"] == bound[0]["runtime"] and "int8" in t["recipe"]]
    deltas = [trial["delta_bytes"] for trial in plain if trial["delta_bytes"]]
    assert min(trial["delta_bytes"] for trial in bound) < 0.7 * min(deltas, default=report["chosen"]["size_bytes"])
    assert report["update"]["delta_bytes"] == report["chosen"]["delta_bytes"]
    assert "takes an update of" in (home / "v2" / "report.html").read_text()
    assert edgeward(home, "verify", home / "v2", "--self-test").returncode == 0


def test_of_another_network_nothing_is_kept_and_the_search_goes_on(home, deployed, tmp_path):
    onnx.save(made.classifier(), tmp_path / "other.onnx")
    data = made.write_samples(tmp_path / "data.npz")
    order = ("--data", data, "-o", tmp_path / "out", "--threads", "1", "--json", "--parent", deployed)
    told = edgeward(home, "optimize", tmp_path / "other.onnx", *order)
    assert told.returncode == 0, told.stderr
    assert any("nothing of digits 1.0.0 (--parent) is kept" in note for note in json.loads(told.stdout)["notes"])


def _unsigned(folder):
    index = json.loads((folder / "index.json").read_text())
    index["manifests"] = index["manifests"][:1]
    (folder / "index.json").write_text(json.dumps(index))


def _altered(folder):
    largest = max((folder / "blobs" / "sha256").iterdir(), key=lambda file: file.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)


def _cut(folder):
    largest = max((folder / "blobs" / "sha256").iterdir(), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:100])


@pytest.mark.parametrize(
    ("harm", "said"),
    [(_unsigned, "is not signed"), (_altered, "altered"), (_cut, "truncated")],
    ids=["unsigned", "altered", "cut"],
)
def test_a_parent_that_does_not_verify_is_refused(home, deployed, next_model, tmp_path, harm, said):
    shutil.copytree(deployed / "bundle", tmp_path / "bundle")
    harm(tmp_path / "bundle")
    told = optimised(home, next_model, tmp_path / "out", "--parent", tmp_path / "bundle")
    assert told.returncode == 6
    assert said in told.stdout + told.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("where", "said"), [("none", "no such bundle"), ("model.onnx", "is a file"), ("empty", "empty")]
)
def test_a_parent_that_is_no_bundle_is_wrong_input(home, next_model, tmp_path, where, said):
    (tmp_path / "empty").mkdir()
    shutil.copyfile(next_model, tmp_path / "model.onnx")
    told = optimised(home, next_model, tmp_path / "out", "--parent", tmp_path / where)
    assert told.returncode == 2
    assert said in told.stdout + told.stderr
    assert not (tmp_path / "out").exists()


def test_a_float_parent_is_told_and_the_search_goes_on(home, next_model, tmp_path):
    packed = edgeward(home, "pack", DIGITS / "digits.onnx", "-o", tmp_path / "float")
    assert packed.returncode == 0, packed.stderr
    signed = edgeward(home, "sign", tmp_path / "float")
    assert signed.returncode == 0, signed.stderr
    told = optimised(home, next_model, tmp_path / "out", "--parent", tmp_path / "float")
    assert told.returncode == 0, told.stderr
    report = json.loads(told.stdout)
    assert any("is not quantised" in note for note in report["notes"])
    assert report["chosen"]["delta_bytes"] > 0
