"""A second model for what the first one found, on real pictures and real models."""

import numpy as np
import pytest
from onnx import parser
from pipelines import memory, running

from detector_models import CELL, DETECT, SIDE, STEPS, detector, scenes
from edgeward.infer import Predictor
from edgeward.infer.postprocess import Box
from edgeward.infer.runtimes import load
from edgeward.records.model import Classify, Resize, TensorSpec
from edgeward.records.pipeline import Cascade
from edgeward.serve import Flow
from edgeward.serve.cascade import Second, crop_of
from edgeward.serve.sources import Wanted

PICTURES = Wanted("scenes", "image", (TensorSpec(name="image", dtype="uint8", shape=(SIDE, SIDE, 3)),))

# The mean of each channel, named by a class.
COLOUR = """<ir_version: 8, opset_import: ["": 17]>
colour (uint8[batch,8,8,CHANNELS] crop) => (float[batch,CHANNELS] mean) {
  numbers = Cast <to = 1> (crop)
  mean = ReduceMean <axes = [1, 2], keepdims = 0> (numbers)
}"""


def first():
    session = load("onnxruntime").load(detector().SerializeToString(), threads=1)
    return Predictor(session, preprocess=STEPS, postprocess=(DETECT,), labels=("red", "green"))


def second(channels, **said):
    model = parser.parse_model(COLOUR.replace("CHANNELS", str(channels))).SerializeToString()
    steps = (Resize(height=8, width=8),)
    labels = ("reddish", "greenish", "blueish")
    session = load("onnxruntime").load(model, threads=1)
    return Second(
        Predictor(session, preprocess=steps, postprocess=(Classify(),), labels=labels),
        Cascade(bundle="colour", **said),
        channels,
    )


@pytest.fixture
def pictures(tmp_path):
    samples, boxes, _ = scenes(6)
    np.savez(tmp_path / "scenes.npz", image=np.stack([sample["image"] for sample in samples]))
    assert boxes.max() > 0
    return str(tmp_path / "scenes.npz")


def results(pictures, **said):
    kept = memory()
    running(pictures, kept, model=first, wanted=PICTURES, flow=Flow(second=second(3, **said))).run()
    found = [result for result in kept.results if result.answer.boxes]
    assert found
    return found


def test_each_box_is_looked_at_by_the_second_model(pictures):
    for result in results(pictures):
        assert len(result.crops) == len(result.answer.boxes)
        for box, crop in zip(result.answer.boxes, result.crops, strict=True):
            assert crop.classes[0].label == {"red": "reddish", "green": "greenish"}[box.label]
        assert result.document["crops"][0]["classes"] == result.crops[0].classes


def test_only_the_wanted_labels_and_the_best_boxes_are_looked_at(pictures):
    for result in results(pictures, labels=("green",), most=1):
        looked = [crop is not None for crop in result.crops]
        greens = [box.label == "green" for box in result.answer.boxes]
        assert sum(looked) == min(1, sum(greens))
        assert all(green for green, one in zip(greens, looked, strict=True) if one)


def test_a_grey_model_gets_grey_crops():
    sample = {"image": np.full((SIDE, SIDE, 3), (200, 100, 50), np.uint8)}
    box = Box("red", 0, 0.9, 10, 10, 10 + CELL, 10 + CELL)
    (answer,) = second(1)(sample, (box,))
    assert answer.outputs["mean"].tolist() == pytest.approx([0.299 * 200 + 0.587 * 100 + 0.114 * 50], abs=1)


def test_a_crop_ends_at_the_edge_of_the_image_and_may_be_empty():
    image = np.zeros((20, 30, 3), np.uint8)
    assert crop_of(image, Box("a", 0, 1, 10, 5, 20, 15), 0.0).shape == (10, 10, 3)
    assert crop_of(image, Box("a", 0, 1, 10, 5, 20, 15), 0.5).shape == (20, 20, 3)
    assert crop_of(image, Box("a", 0, 1, 25, -5, 40, 15), 0.0).shape == (15, 5, 3)
    assert crop_of(image, Box("a", 0, 1, 12, 12, 12, 12), 0.0) is None


def test_a_crop_that_does_not_fit_is_told_and_the_boxes_are_an_answer_all_the_same(pictures):
    told, kept = [], memory()
    model = parser.parse_model(COLOUR.replace("CHANNELS", "3")).SerializeToString()
    unfit = Second(Predictor(load("onnxruntime").load(model, threads=1)), Cascade(bundle="colour"), 3)
    counts = running(pictures, kept, model=first, wanted=PICTURES, flow=Flow(second=unfit), told=told).run()
    assert counts.answered == 6
    assert "the cascade: input 'crop' wants 8x8x3 per sample, got" in told[0]
