"""Average precision against the implementation of COCO's authors, and the removal of overlapping boxes."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.infer.geometry import image_size, placement_of
from edgeward.infer.postprocess import boxes_of, class_count, detections_of, kept_of, overlaps, softmax
from edgeward.kit.errors import Failed, WrongInput
from edgeward.measure.quality import METRICS, check_targets, drop, interval
from edgeward.records.model import Detect, Resize, TensorSpec


def scene(seed: int, images: int = 40, classes: int = 3, noise: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Detections and true boxes: some found well, some badly, some twice, some not at all."""
    generator = np.random.default_rng(seed)
    truth = np.full((images, 6, 5), -1, np.float32)
    found = np.full((images, 20, 6), -1, np.float32)
    for image in range(images):
        count = generator.integers(0, 7)
        corner = generator.uniform(0, 60, (count, 2))
        boxes = np.concatenate([corner, corner + generator.uniform(8, 36, (count, 2))], axis=1)
        labels = generator.integers(0, classes, count)
        truth[image, :count] = np.column_stack([boxes, labels])
        rows = []
        for box, label in zip(boxes, labels, strict=True):
            for _ in range(generator.integers(0, 3)):
                near = box + generator.normal(0, noise, 4)
                told = label if generator.random() > 0.1 else generator.integers(0, classes)
                rows.append(
                    [*np.minimum(near[:2], near[2:]), *np.maximum(near[:2], near[2:]), generator.random(), told]
                )
        for _ in range(generator.integers(0, 4)):
            low = generator.uniform(0, 60, 2)
            rows.append([*low, *(low + 20), generator.random() * 0.6, generator.integers(0, classes)])
        rows = sorted(rows, key=lambda row: -row[4])[:20]
        found[image, : len(rows)] = np.array(rows).reshape(-1, 6)
    return found, truth


def judged_by_coco(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    from pycocotools.cocoeval import COCOeval

    annotations = [
        {"image_id": image, "category_id": int(row[4]), "iscrowd": 0, "area": float(np.prod(row[2:4] - row[:2])),
         "bbox": [*row[:2].tolist(), *(row[2:4] - row[:2]).tolist()]}
        for image, rows in enumerate(truth) for row in rows if row[4] >= 0
    ]  # fmt: skip
    for number, one in enumerate(annotations):
        one["id"] = number + 1
    results = [
        {"image_id": image, "category_id": int(row[5]), "score": float(row[4]),
         "bbox": [*row[:2].tolist(), *(row[2:4] - row[:2]).tolist()]}
        for image, rows in enumerate(found) for row in rows if row[5] >= 0
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        true = coco.COCO()
        true.dataset = {
            "images": [{"id": image} for image in range(len(truth))], "annotations": annotations,
            "categories": [{"id": label} for label in sorted({one["category_id"] for one in annotations})],
        }  # fmt: skip
        true.createIndex()
        evaluation = COCOeval(true, true.loadRes(results), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return float(precision[precision > -1].mean()), float(precision[0][precision[0] > -1].mean())


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_that_of_coco(seed):
    found, truth = scene(seed)
    wanted, wanted_50 = judged_by_coco(found, truth)
    assert METRICS["map"].score(found, truth) == pytest.approx(wanted, abs=1e-5)
    assert METRICS["map50"].score(found, truth) == pytest.approx(wanted_50, abs=1e-5)


def test_perfect_detections_score_one():
    _, truth = scene(0)
    exact = np.concatenate([truth[..., :4], np.ones((*truth.shape[:2], 1)), truth[..., 4:]], axis=2)
    assert METRICS["map"].score(exact, truth) == pytest.approx(1)


def test_no_detection_at_all_scores_zero():
    _, truth = scene(0)
    assert METRICS["map"].score(np.full((len(truth), 20, 6), -1.0), truth) == 0


def test_weights_count_an_image_as_often_as_they_say():
    found, truth = scene(3, images=12)
    weights = np.random.default_rng(0).integers(0, 3, 12)
    rows = np.repeat(np.arange(12), weights)
    whole = METRICS["map"].weighted(found, truth)(weights[None].astype(float))[0]
    assert whole == pytest.approx(METRICS["map"].score(found[rows], truth[rows]), abs=1e-5)


def test_the_drop_between_equal_detectors_is_nothing():
    found, truth = scene(1)
    same = drop(METRICS["map"], found, found, truth, seed=0)
    assert same.value == 0
    assert same.interval == (0, 0)


def test_a_noisier_detector_is_surely_worse():
    found, truth = scene(1, images=200, noise=1.0)
    worse = found.copy()
    worse[..., :2] += 5
    lost = drop(METRICS["map"], found, worse, truth, seed=0)
    assert 0 < lost.interval[0] < lost.value < lost.interval[1]


def test_true_boxes_are_needed():
    with pytest.raises(WrongInput, match="no image has a true box"):
        check_targets(METRICS["map"], np.zeros((2, 1, 6)), np.full((2, 3, 5), -1.0), "data.npz")


HEAD = np.array(
    [[10, 10, 30, 30, 0.9, 0.0], [11, 11, 31, 31, 0.8, 0.0], [10, 10, 30, 30, 0.1, 0.7], [60, 60, 90, 90, 0.0, 0.3]],
    np.float32,
)
ROWS = Detect(layout="rows", box_format="xyxy")


def test_overlapping_boxes_of_a_class_leave_the_best():
    kept = detections_of(ROWS, [HEAD], height=100, width=100)
    assert kept[:, 4].tolist() == pytest.approx([0.9, 0.7, 0.3])
    assert kept[:, 5].tolist() == [0, 1, 1]
    assert kept[0, :4].tolist() == [10, 10, 30, 30]


def test_all_layouts_and_box_formats_tell_the_same():
    wanted = detections_of(ROWS, [HEAD], height=50, width=100)
    middles = HEAD.copy()
    middles[:, :2], middles[:, 2:4] = (HEAD[:, :2] + HEAD[:, 2:4]) / 2, HEAD[:, 2:4] - HEAD[:, :2]
    scaled = HEAD.copy()
    scaled[:, :4] /= (100, 50, 100, 50)
    logits = HEAD.copy()
    logits[:, 4:] = np.log(np.clip(HEAD[:, 4:], 1e-6, 1)) - np.log1p(-np.clip(HEAD[:, 4:], 1e-6, 1))
    for step, outputs in [
        (Detect(layout="columns", box_format="xyxy"), [HEAD.T]),
        (Detect(layout="pair", box_format="xyxy"), [HEAD[:, :4], HEAD[:, 4:]]),
        (Detect(layout="pair", box_format="xyxy"), [HEAD[:, 4:], HEAD[:, :4]]),
        (Detect(layout="rows", box_format="cxcywh"), [middles]),
        (Detect(layout="rows", box_format="xyxy", normalized=True), [scaled]),
        (Detect(layout="rows", box_format="xyxy", sigmoid=True), [logits]),
    ]:
        np.testing.assert_allclose(detections_of(step, outputs, height=50, width=100), wanted, rtol=1e-4, atol=1e-4)


def test_scores_below_the_threshold_give_no_box():
    assert detections_of(ROWS, [HEAD * 0.1], height=100, width=100).shape == (0, 6)


def test_a_head_of_another_shape_is_told():
    with pytest.raises(WrongInput, match="4 \\+ classes"):
        detections_of(ROWS, [HEAD[:, :4]], height=9, width=9)
    with pytest.raises(WrongInput, match="anchors x 4 and anchors x classes"):
        detections_of(Detect(layout="pair", box_format="xyxy"), [HEAD], height=9, width=9)


def test_nan_is_no_score():
    with pytest.raises(Failed, match="NaN"):
        detections_of(ROWS, [np.full_like(HEAD, np.nan)], height=9, width=9)


BOXES = st.lists(st.tuples(*[st.floats(0, 50, width=32)] * 4, st.integers(0, 2)), max_size=30)


@given(BOXES, st.floats(0.1, 0.9))
def test_no_two_kept_boxes_of_a_class_overlap_beyond_the_threshold(rows, threshold):
    array = np.array(rows, np.float64).reshape(-1, 5)
    boxes = np.concatenate([array[:, :2], array[:, :2] + array[:, 2:4]], axis=1)
    kept = kept_of(boxes.T, array[:, 4], iou_threshold=threshold, most=100)
    shares = overlaps(boxes[kept], boxes[kept]) - np.eye(len(kept)) * 2
    same = array[kept, 4][:, None] == array[kept, 4][None]
    assert not (same & (shares > threshold)).any()
    assert sorted(kept) == kept


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_precision_lies_between_zero_and_one_and_so_does_its_interval(seed):
    found, truth = scene(seed, images=10)
    score = METRICS["map"].score(found, truth)
    if np.isfinite(score):
        low, high = interval(METRICS["map"], found, truth, seed=seed)
        assert 0 <= low <= high <= 1
        assert 0 <= score <= 1


def test_boxes_come_back_through_a_letterbox_and_end_at_the_picture():
    placed = placement_of((Resize(height=100, width=100, keep_aspect=True),), 50, 200)
    head = np.array([[10, 40, 30, 50, 0.9, 0.1], [-20, 20, 140, 90, 0.1, 0.8]])
    step = Detect(layout="rows", box_format="xyxy")
    first, second = boxes_of(step, [head], ("dog",), placed, (50, 200))[0:2]
    assert (first.label, first.index, first.score) == ("dog", 0, pytest.approx(0.9))
    assert (first.x1, first.y1, first.x2, first.y2) == pytest.approx((20, 6, 60, 26), abs=1e-3)
    assert (second.label, second.index) == ("1", 1)
    assert (second.x1, second.y1, second.x2, second.y2) == (0, 0, 200, 50)


@pytest.mark.parametrize(
    ("layout", "shapes", "count"),
    [
        ("rows", [("n", 100, 84)], 80),
        ("columns", [("n", 84, "anchors")], 80),
        ("columns", [("n", "values", 100)], None),
        ("pair", [("n", 100, 4), ("n", 100, 7)], 7),
        ("pair", [("n", 100, 7), ("n", 100, 4)], 7),
        ("pair", [("n", 100, 7)], None),
    ],
)
def test_the_classes_of_a_head_are_counted_by_its_layout(layout, shapes, count):
    outputs = [TensorSpec(name=str(number), dtype="float32", shape=shape) for number, shape in enumerate(shapes)]
    assert class_count((Detect(layout=layout, box_format="xyxy"),), outputs) == count


def test_height_and_width_of_pictures_and_of_planes():
    assert [image_size(shape) for shape in ((9, 8), (9, 8, 3), (3, 9, 8), (1, 9, 8))] == [(9, 8)] * 4
    with pytest.raises(WrongInput, match="boxes and masks stand in images"):
        image_size((5,))


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 10**6), layout=st.sampled_from(["rows", "columns", "pair"]),
    activation=st.sampled_from(["none", "sigmoid", "softmax", "both"]), objectness=st.booleans(),
    background=st.booleans(),
    threshold=st.one_of(st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.floats(0, 1)),
    dtype=st.sampled_from(["f2", "f4", "f8", "i4", "u1"]),
)  # fmt: skip
def test_what_reaches_the_threshold_is_found_as_by_looking_at_each_score(
    seed, layout, activation, objectness, background, threshold, dtype
):
    generator, objectness = np.random.default_rng(seed), objectness and layout != "pair"
    anchors, columns = generator.integers(0, 30), generator.integers(2, 6) + objectness + background
    raw = (
        generator.normal(size=(anchors, columns)) * 4 if activation != "none" else generator.random((anchors, columns))
    )
    raw = np.round(raw * 10) / 10 if generator.random() < 0.5 else raw  # tenths tie, and meet thresholds
    raw = (raw if dtype.startswith("f") else np.abs(np.rint(raw * 3))).astype(dtype)
    boxes = (generator.random((anchors, 4)) * 20).astype(dtype)
    head = np.concatenate([boxes, raw], axis=1)
    step = Detect(
        layout=layout, box_format="cxcywh", sigmoid=activation in ("sigmoid", "both"),
        softmax=activation in ("softmax", "both"),
        objectness=objectness, background=background, score_threshold=threshold, iou_threshold=1.0, most=1000,
    )  # fmt: skip
    outputs = {"rows": [head], "columns": [np.ascontiguousarray(head.T)], "pair": [boxes, raw]}[layout]
    scores = raw.astype(np.float64)
    scores = 1 / (1 + np.exp(-scores)) if step.sigmoid else scores
    scores = scores[:, :1] * scores[:, 1:] if objectness else scores
    scores = softmax(scores).astype(np.float64) if step.softmax else scores
    scores = scores[:, 1:] if background else scores
    wanted = [
        (scores[place, label], label, boxes[place, 0])
        for place in range(anchors)
        for label in range(scores.shape[1])
        if scores[place, label] >= max(threshold, 1e-9)
    ]
    wanted.sort(key=lambda one: -one[0])
    found = detections_of(step, outputs, height=10, width=10)
    assert [one[1] for one in wanted] == found[:, 5].tolist()
    np.testing.assert_allclose(found[:, 4], [one[0] for one in wanted], rtol=1e-6)
    np.testing.assert_allclose((found[:, 0] + found[:, 2]) / 2, [one[2] for one in wanted], atol=1e-4)


def test_whole_numbers_are_boxes_too():
    step = Detect(layout="pair", box_format="xyxy")
    found = detections_of(step, [HEAD[:, :4].astype(np.int32), HEAD[:, 4:]], height=100, width=100)
    assert found[:, 4].tolist() == pytest.approx([0.9, 0.7, 0.3])


@pytest.mark.filterwarnings("error")
def test_boxes_without_end_and_of_few_bits_are_compared():
    endless = np.array([[-np.inf, 0, np.inf, 9], [-np.inf, 0, np.inf, 9], [-np.inf, 0, -np.inf, 9]])
    assert kept_of(endless.T, np.zeros(3), iou_threshold=0.5, most=9) == [0, 1, 2]
    wide = np.array([[0, 0, 300, 300, 0.9], [1, 1, 301, 301, 0.8]], np.float16)
    assert detections_of(ROWS, [wide], height=400, width=400)[:, :4].tolist() == [[0, 0, 300, 300]]
    middles = np.array([[np.inf, 9, np.inf, 9, 0.9], [9, 9, np.inf, 9, 0.8]])
    step = Detect(layout="rows", box_format="cxcywh")
    assert len(detections_of(step, [middles], height=9, width=9)) == 2


@pytest.mark.parametrize("place", [(0, 1), (3, 2), (3, 5)])
def test_nan_anywhere_is_told(place):
    head = HEAD.copy()
    head[place] = np.nan
    with pytest.raises(Failed, match="NaN"):
        detections_of(ROWS, [head], height=9, width=9)
