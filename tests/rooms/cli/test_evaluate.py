"""`edgeward evaluate`, as a person starts it."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

from edgeward.cli.main import main

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits"
GOLDEN = Path(__file__).parents[2] / "golden"


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
    monkeypatch.delenv("EDGEWARD_TRUSTED_KEYS", raising=False)

    def run(*arguments):
        with monkeypatch.context() as during:
            during.setattr(sys, "argv", ["edgeward", *map(str, arguments)])
            with pytest.raises(SystemExit) as end:
                main()
        return Done(int(end.value.code or 0), *capfd.readouterr())

    return run


DATA = ("--data", EXAMPLE / "evaluation.npz", "--preprocess", EXAMPLE / "preprocess.toml")


def one_sentence(done, code, *words):
    assert done.code == code, done.err
    assert done.out == ""
    assert done.err.startswith("edgeward: ")
    for word in words:
        assert word in done.err


def test_json_names_the_metric_its_value_and_its_interval(edgeward):
    found = json.loads(edgeward("evaluate", EXAMPLE / "digits.onnx", *DATA, "--json").out)
    assert set(found) == {"metric", "value", "ci", "n", "data", "model", "reference"}
    assert found["metric"] == "top1"
    assert found["n"] == 500
    assert 0.9 < found["ci"][0] < found["value"] < found["ci"][1] <= 1
    assert found["reference"] is None


def test_a_bundle_answers_as_the_model_with_the_steps_beside_it(edgeward):
    edgeward("pack", EXAMPLE / "digits.onnx", "--preprocess", EXAMPLE / "preprocess.toml", "-o", "b")
    edgeward("sign", "b")
    done = edgeward("evaluate", "b", *DATA, "--reference", EXAMPLE / "digits.onnx", "--json")
    reference = json.loads(done.out)["reference"]
    assert reference["drop"] == 0
    assert reference["drop_ci"][0] < 0 < reference["drop_ci"][1]
    assert reference["max_difference"] == 0
    assert reference["cosine"] == pytest.approx(1)
    assert done.err == ""


def test_folder_classes_are_matched_with_the_labels_of_the_bundle_by_name(edgeward):
    names = [f"c{9 - number}" for number in range(10)]  # sorted by name they run backwards
    Path("labels.txt").write_text("\n".join(names))
    steps = ("--preprocess", EXAMPLE / "preprocess.toml", "--labels", "labels.txt", "-o", "b")
    edgeward("pack", EXAMPLE / "digits.onnx", *steps)
    edgeward("sign", "b")
    arrays = np.load(EXAMPLE / "evaluation.npz")
    for index, label in enumerate(arrays["labels"][:60]):
        folder = Path("images") / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = next(arrays[name] for name in arrays.files if name != "labels")[index]
        Image.fromarray(pixels[:, :, 0]).save(folder / f"{index}.png")
    found = json.loads(edgeward("evaluate", "b", "--data", "images", "--json").out)
    assert found["n"] == 60
    assert found["value"] > 0.9


def test_what_cannot_be_judged_is_one_sentence(edgeward):
    model = EXAMPLE / "digits.onnx"
    x = np.zeros((4, 1, 8, 8), np.float32)
    np.savez("none.npz", x=x)
    np.savez("short.npz", x=x, labels=[0, 1])
    np.savez("one.npz", x=x, labels=[3, 3, 3, 3])
    np.savez("nan.npz", x=x * np.nan, labels=[0, 1, 2, 3])
    np.savez("wide.npz", x=np.zeros((4, 1, 8, 9), np.float32), labels=[0, 1, 2, 3])
    Path("empty").mkdir()
    one_sentence(edgeward("evaluate", model, "--data", "missing"), 2, "missing: no such data set")
    one_sentence(edgeward("evaluate", model, "--data", "none.npz"), 2, "no labels", "--reference")
    one_sentence(edgeward("evaluate", model, "--data", "short.npz"), 2, "4 samples but labels of length 2")
    one_sentence(edgeward("evaluate", model, "--data", "one.npz"), 2, "all 4 labels are class 3")
    one_sentence(edgeward("evaluate", model, "--data", "nan.npz"), 2, "not finite")
    one_sentence(edgeward("evaluate", model, "--data", "wide.npz"), 2, "wide", "wants 1x8x8 per sample, got 1x8x9")
    one_sentence(edgeward("evaluate", model, "--data", "empty"), 2, "no image and no WAV file")
    one_sentence(edgeward("evaluate", model, *DATA, "--metric", "top9"), 2, "no metric 'top9'")
    one_sentence(edgeward("evaluate", GOLDEN / "bundle-v1-unsigned", "--data", "none.npz"), 6, "is not signed")


def test_a_gate_is_held_and_too_few_samples_are_told(edgeward):
    arrays = dict(np.load(EXAMPLE / "evaluation.npz"))
    model, steps = EXAMPLE / "digits.onnx", ("--preprocess", EXAMPLE / "preprocess.toml")
    np.savez("few.npz", **{name: array[:40] for name, array in arrays.items()})
    same = edgeward("evaluate", model, "--data", "few.npz", *steps, "--reference", model, "--max-drop", "0.01")
    assert same.code == 0
    assert "40 samples are too few to tell" in same.err
    Path("dark.toml").write_text(
        '[[preprocess]]\ntype = "normalize"\nscale = 1e-6\n[[preprocess]]\ntype = "to_layout"\nlayout = "NCHW"\n'
    )
    edgeward("pack", model, "--preprocess", "dark.toml", "-o", "dark")
    edgeward("sign", "dark")
    options = ("--data", EXAMPLE / "evaluation.npz", *steps, "--reference", model, "--max-drop", "0.01", "--json")
    worse = edgeward("evaluate", "dark", *options)
    assert worse.code == 3
    assert "drops by" in worse.err
    assert json.loads(worse.out)["reference"]["drop_p"] < 1e-6


def test_a_task_takes_its_usual_metric(edgeward):
    model = EXAMPLE / "digits.onnx"
    assert json.loads(edgeward("evaluate", model, *DATA, "--task", "audio", "--json").out)["metric"] == "top1"
    one_sentence(edgeward("evaluate", model, *DATA, "--task", "detection"), 2, "map wants boxes, and there are none")
    one_sentence(edgeward("evaluate", model, *DATA, "--task", "guessing"), 2, "there is no task 'guessing'")
    assert edgeward("evaluate", model, *DATA, "--task", "audio", "--metric", "f1").code == 2
    assert edgeward("evaluate", model, *DATA, "--max-drop", "0.01").code == 2


def test_class_names_in_a_file_that_is_no_text_are_one_sentence(edgeward):
    Path("labels.txt").write_bytes(b"\xff\xfe\x00cat")
    one_sentence(edgeward("pack", EXAMPLE / "digits.onnx", "--labels", "labels.txt"), 2, "no text in UTF-8")
    options = ("--data", EXAMPLE / "evaluation.npz", "--labels", "labels.txt", "-o", "out")
    one_sentence(edgeward("optimize", EXAMPLE / "digits.onnx", *options), 2, "no text in UTF-8")
    assert not Path("out").exists()


def detector_file(path: str) -> None:
    """A head of 12 anchors × (4 + 2 classes) that answers with its own input."""
    shape = ["batch", 12, 6]
    values = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", *values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    Path(path).write_bytes(model.SerializeToString())


def test_a_detector_is_judged_by_its_boxes_and_compared_with_a_reference(edgeward):
    boxes = np.array([[[1, 1, 4, 4], [0, 6, 3, 9]]] * 8, np.float32)
    classes = np.array([[0, 1], [1, -1]] * 4)
    heads = np.zeros((8, 12, 6), np.float32)
    heads[:, :2, :4] = boxes
    heads[np.arange(8)[:, None], [0, 1], 4 + np.maximum(classes, 0)] = 0.9
    np.savez("d.npz", x=heads, boxes=boxes, classes=classes)
    detector_file("m.onnx")
    done = edgeward("evaluate", "m.onnx", "--data", "d.npz", "--task", "detection", "--reference", "m.onnx", "--json")
    found = json.loads(done.out)
    assert (found["metric"], found["n"]) == ("map", 8)
    assert 0.8 < found["value"] < 1  # in half of the images one box more is answered than there is
    assert found["reference"]["drop_ci"] == [0, 0]
    assert found["reference"]["max_difference"] is None
    assert edgeward("evaluate", "m.onnx", "--data", "d.npz", "--reference", "m.onnx").code == 0
    step = '[[postprocess]]\ntype = "detect"\nlayout = "rows"\nbox_format = "cxcywh"\n'
    Path("said.toml").write_text("preprocess = []\n" + step)
    said = json.loads(edgeward("evaluate", "m.onnx", "--data", "d.npz", "--preprocess", "said.toml", "--json").out)
    assert said["value"] < found["value"]
    one_sentence(edgeward("evaluate", "m.onnx", "--data", "d.npz", "--metric", "top1"), 2, "top1 cannot judge")
