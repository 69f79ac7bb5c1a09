"""Heads, masks, key points and anomaly scores, against loops that do what the page says, and against COCO's code."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.cli.answers import in_words
from edgeward.infer import Predictor, runtimes
from edgeward.infer.answer import document_of, run_lengths
from edgeward.infer.geometry import placement_of
from edgeward.infer.maps import keypoints_of, mask_of, segments_of, verdict_of
from edgeward.infer.postprocess import class_count, classes_of, detections_of, softmax
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.kit.errors import Failed, WrongInput
from edgeward.records.model import (
    Anomaly,
    CenterCrop,
    Classify,
    Crop,
    Detect,
    Keypoints,
    Normalize,
    Priors,
    Resize,
    Segment,
    TensorSpec,
)  # fmt: skip

SSD = Detect(
    layout="pair", box_format="cxcywh", softmax=True, background=True, score_threshold=0.3,
    priors=(Priors(rows=2, columns=3, boxes=((0.2, 0.4), (0.5, 0.5))), Priors(rows=1, columns=1, boxes=((0.9, 0.8),))),
)  # fmt: skip

SELECTED = Detect(layout="selected", box_format="xyxy")


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def ssd_by_hand(boxes, scores, height, width):
    """Liu et al. 2016, one number after another."""
    priors = [
        ((column + 0.5) / level.columns, (row + 0.5) / level.rows, *size)
        for level in SSD.priors for row in range(level.rows) for column in range(level.columns) for size in level.boxes
    ]  # fmt: skip
    found = []
    for (px, py, pw, ph), (tx, ty, tw, th), row in zip(priors, boxes, scores, strict=True):
        exponents = [math.exp(one) for one in row]
        for label in (1, 2):
            score = exponents[label] / sum(exponents)
            x, y, w, h = px + 0.1 * tx * pw, py + 0.1 * ty * ph, pw * math.exp(0.2 * tw), ph * math.exp(0.2 * th)
            if score >= 0.3:
                corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
                found.append((*corners, score, label - 1))
    return sorted(found, key=lambda one: -one[4])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", ["cxcywh", "cycxhw"])
def test_changes_of_priors_are_decoded_as_ssd_does(seed, order):
    from msgspec.structs import replace

    generator = np.random.default_rng(seed)
    boxes, scores = generator.normal(size=(13, 4)), generator.normal(size=(13, 3)) * 2
    given = boxes if order == "cxcywh" else boxes[:, [1, 0, 3, 2]]
    step = replace(SSD, box_format=order, iou_threshold=1.0)
    found = detections_of(step, [given.astype(np.float32), scores.astype(np.float32)], height=60, width=90)
    assert np.allclose(found, ssd_by_hand(boxes, scores, 60, 90), atol=1e-3)


@pytest.mark.parametrize("score", [0.0, -99.0], ids=["boxes found", "nothing found"])
def test_priors_of_another_number_are_refused(score):
    with pytest.raises(WrongInput, match="there are 13 priors, the output has 5 boxes"):
        detections_of(SSD, [np.zeros((5, 4)), np.full((5, 3), score)], height=10, width=10)


def test_priors_of_another_number_are_refused_for_selected_boxes_too():
    from msgspec.structs import replace

    with pytest.raises(WrongInput, match="there are 13 priors, the output has 14 boxes"):
        detections_of(replace(SSD, layout="selected"), [np.ones((14, 6))], height=10, width=10)


def test_objectness_multiplies_the_scores_of_classes():
    head = np.array([[50, 40, 20, 10, 2.0, -1.0, 3.0], [10, 10, 4, 4, -5.0, 3.0, 3.0]], np.float32)
    step = Detect(layout="rows", box_format="cxcywh", objectness=True, sigmoid=True)
    (row,) = detections_of(step, [head], height=100, width=100)
    assert np.allclose(row, [40, 35, 60, 45, sigmoid(2) * sigmoid(3), 1], atol=1e-5)
    across = Detect(layout="columns", box_format="cxcywh", objectness=True, sigmoid=True)
    assert np.allclose(detections_of(across, [head.T], height=100, width=100), [row])
    assert class_count((step,), (TensorSpec(name="y", dtype="float32", shape=("n", 100, 7)),)) == 2


def test_selected_boxes_stay_as_they_are_even_where_they_overlap():
    rows = np.array([[1, 2, 5, 6, 0.9, 3], [1, 2, 5, 6, 0.8, 3], [0, 0, 1, 1, 0.1, 0], [0, 0, 0, 0, 0, -1]], np.float32)
    step = Detect(layout="selected", box_format="yxyx")
    assert np.allclose(detections_of(step, [rows], height=10, width=10), [[2, 1, 6, 5, 0.9, 3], [2, 1, 6, 5, 0.8, 3]])
    with pytest.raises(WrongInput, match="selected detections are boxes x 6"):
        detections_of(step, [rows[:, :5]], height=10, width=10)


def test_a_mask_of_the_input_s_size_is_the_class_of_each_pixel():
    scores = np.random.default_rng(0).normal(size=(3, 7, 9)).astype(np.float32)
    placed = placement_of((), 7, 9)
    for step, output in (
        (Segment(layout="planes"), scores),
        (Segment(layout="pixels"), scores.transpose(1, 2, 0)),
        (Segment(layout="numbers"), scores.argmax(0)),
    ):
        assert (mask_of(step, output, placed, (7, 9)) == scores.argmax(axis=0)).all()


def test_one_plane_is_class_1_from_the_threshold_on():
    output = np.array([[[0.2, 0.5, 0.9]]], np.float32)
    mask = mask_of(Segment(layout="planes"), output, placement_of((), 1, 3), (1, 3))
    assert mask.tolist() == [[0, 1, 1]]
    (found,) = segments_of(Segment(layout="planes"), mask, ("ground", "leaf"))
    assert (found.label, found.area, found.share) == ("leaf", 2, pytest.approx(2 / 3))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(8, 60), width=st.integers(8, 60), side=st.integers(4, 40), cells=st.integers(2, 20),
    keep=st.booleans(), cropped=st.booleans(),
)  # fmt: skip
def test_every_pixel_has_the_class_of_the_cell_under_its_middle(height, width, side, cells, keep, cropped):
    steps = (Resize(height=side, width=side + 3, keep_aspect=keep),)
    if cropped:
        steps = (
            Crop(left=0.25, top=0, right=1, bottom=0.75, relative=True),
            *steps,
            CenterCrop(height=side, width=side),
        )
    placed = placement_of(steps, height, width)
    classes = np.arange(cells * cells).reshape(cells, cells)
    mask = mask_of(Segment(layout="numbers"), classes, placed, (height, width))
    for row, column in np.random.default_rng(0).integers(0, (height, width), (20, 2)):
        x = (column + 0.5) * placed.scale[0] + placed.offset[0]
        y = (row + 0.5) * placed.scale[1] + placed.offset[1]
        inside = 0 <= x < placed.width and 0 <= y < placed.height
        wanted = classes[int(y * cells / placed.height), int(x * cells / placed.width)] if inside else -1
        assert mask[row, column] == wanted


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_are_those_of_coco(seed):
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    mask = np.random.default_rng(seed).random((11, 6)) < [0, 0.2, 0.5, 0.9, 1][seed]
    written = run_lengths(mask)
    assert sum(written["counts"]) == mask.size
    assert (coco.decode(coco.frPyObjects(written, *mask.shape)) == mask).all()


def test_the_best_cell_of_each_heat_map_is_a_point():
    heat = np.zeros((3, 4, 8), np.float32)
    heat[0, 1, 6], heat[1, 3, 0] = 0.9, 0.5
    placed = placement_of((Resize(height=32, width=64),), 64, 64)
    points = keypoints_of(Keypoints(form="heat_maps"), heat, ("nose", "ear", "eye"), placed)
    assert [(one.label, one.x, one.y) for one in points] == [("nose", 52, 24), ("ear", 4, 56)]


def test_points_as_numbers_come_in_either_order_with_or_without_scores():
    placed = placement_of((Resize(height=20, width=20, keep_aspect=True),), 10, 20)
    shares = np.array([[[0.5, 0.25, 0.9], [0.3, 0.1, 0.1]]], np.float32)
    step = Keypoints(form="direct", order="yx", normalized=True)
    (point,) = keypoints_of(step, shares, (), placed)
    assert (point.label, point.x, point.y) == ("0", 5, 5)
    plain = keypoints_of(Keypoints(form="direct"), np.array([[7.0, 5.0]]), (), placed)
    assert [(one.x, one.y, one.score) for one in plain] == [(7, 0, 1)]


def test_a_verdict_is_the_mean_of_what_differs():
    output, entered = np.array([1.0, 2.0, 4.0]), np.array([[1.0, 0.0, 1.0]])
    assert verdict_of(Anomaly(of="mse", threshold=4), output, entered).score == pytest.approx(13 / 3)
    mae = verdict_of(Anomaly(of="mae", threshold=5 / 3), output, entered)
    assert (mae.score, mae.is_anomaly) == (pytest.approx(5 / 3), True)
    assert not verdict_of(Anomaly(of="output", threshold=1), np.array([[0.5]]), None).is_anomaly
    with pytest.raises(WrongInput, match="a reconstruction is as large as what it is of: 3 numbers; it has 2"):
        verdict_of(Anomaly(of="mse", threshold=1), output[:2], entered)


def echo(gain, *, preprocess=(), folded=(), step):
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 3))
    session = runtimes.load("echo").load(codec.to_json(EchoModel(inputs=(spec,), gain=gain)), threads=1)
    return Predictor(session, preprocess=preprocess, postprocess=(step,), folded=folded)


def test_steps_that_moved_into_the_graph_still_stand_before_what_is_reconstructed():
    raw, scale = {"x": np.array([51, 102, 255], np.uint8)}, Normalize()
    outside = echo(2.0, preprocess=(scale,), step=Anomaly(of="mae", threshold=0.1)).answer(raw)
    inside = echo(2 / 255, folded=(scale,), step=Anomaly(of="mae", threshold=0.1)).answer(raw)
    assert outside.anomaly.score == pytest.approx((0.2 + 0.4 + 1) / 3)
    assert inside.anomaly.score == pytest.approx(outside.anomaly.score)
    assert in_words(inside) == ("anomaly", "0.5333")
    assert document_of(inside)["anomaly"] == inside.anomaly


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda bad: mask_of(Segment(layout="planes"), bad, placement_of((), 2, 2), (2, 2)), "no class"),
        (lambda bad: keypoints_of(Keypoints(form="direct"), bad, (), placement_of((), 2, 2)), "no point"),
        (lambda bad: detections_of(SELECTED, [np.full((1, 6), np.nan)], height=1, width=1), "no box"),
    ],
)  # fmt: skip
def test_nan_is_no_answer(read, words):
    with pytest.raises(Failed, match=words):
        read(np.full((1, 2, 2), np.nan, np.float32))


def test_an_output_of_another_form_is_told_with_its_shape():
    placed = placement_of((), 4, 4)
    with pytest.raises(WrongInput, match="as planes is classes x height x width; the output is 4x4"):
        mask_of(Segment(layout="planes"), np.zeros((4, 4)), placed, (4, 4))
    with pytest.raises(WrongInput, match="heat maps are points x height x width; the output is 4x4"):
        keypoints_of(Keypoints(form="heat_maps"), np.zeros((4, 4)), (), placed)
    with pytest.raises(WrongInput, match="key points are points x 2 or x 3"):
        keypoints_of(Keypoints(form="direct"), np.zeros((4, 4)), (), placed)


@pytest.mark.parametrize("count", [1, 2, 10, 32, 33, 1000])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_likeliest_class_has_the_probability_of_the_whole_softmax(count, scale):
    scores = (np.random.default_rng(count).normal(size=(1, count)) * scale).astype(np.float32)
    (found,) = classes_of((Classify(top=1, softmax=True),), scores, ())
    whole = softmax(scores)[0]
    assert found.index == whole.argmax()
    assert found.score == pytest.approx(whole.max(), rel=1e-5)


@pytest.mark.parametrize("count", [1, 2, 10, 32, 33, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_the_best_class_is_the_first_of_the_largest(count, dtype):
    scores = (np.random.default_rng(count).normal(size=(1, count)) * 3).astype(dtype)
    (found,) = classes_of((Classify(top=1, softmax=False),), scores, ())
    assert (found.index, found.score) == (scores.argmax(), float(scores.max()))


@pytest.mark.parametrize("count", [10, 1000])
@pytest.mark.parametrize("softmaxed", [True, False])
def test_a_score_that_is_no_number_is_not_hidden(count, softmaxed):
    scores = np.ones(count, np.float32)
    scores[count // 2] = np.nan
    (found,) = classes_of((Classify(top=1, softmax=softmaxed),), scores, ())
    assert np.isnan(found.score)
