"""Detectors, segmenters and embedders, judged on annotated data with a real runtime."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from edgeward.infer import Predictor, runtimes
from edgeward.kit.errors import Failed, WrongInput
from edgeward.measure.dataset import open_dataset
from edgeward.measure.evaluate import answers, chosen_metric
from edgeward.records.model import Detect, Resize, TensorSpec, ToLayout

pytest.importorskip("onnxruntime")
GENERATOR = np.random.default_rng(0)
ANCHORS, CLASSES = 24, 3


def predictor(nodes, inputs, outputs, **steps) -> Predictor:
    values = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in side] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", values[0], values[1])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return Predictor(runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1), **steps)


def detector(**steps) -> Predictor:
    """Answers with its own input: a head of anchors × (4 + classes), which the test makes."""
    shape = ["batch", ANCHORS, 4 + CLASSES]
    return predictor([helper.make_node("Identity", ["x"], ["y"])], [("x", shape)], [("y", shape)], **steps)


def scenes(count: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heads that find every true box, and the truth padded with -1."""
    heads = np.zeros((count, ANCHORS, 4 + CLASSES), np.float32)
    boxes, classes = np.full((count, 4, 4), -1, np.float32), np.full((count, 4), -1, np.int64)
    for image in range(count):
        real = int(GENERATOR.integers(1, 5))
        low = GENERATOR.uniform(0, 4, (real, 2)) + np.arange(real)[:, None] * 6
        boxes[image, :real] = np.concatenate([low, low + GENERATOR.uniform(2, 5, (real, 2))], axis=1)
        classes[image, :real] = GENERATOR.integers(0, CLASSES, real)
        heads[image, :real, :4] = boxes[image, :real]
        heads[image, np.arange(real), 4 + classes[image, :real]] = GENERATOR.uniform(0.5, 1, real)
    return heads, boxes, classes


def saved(folder: Path, **arrays) -> Path:
    np.savez(folder / "d.npz", **arrays)
    return folder / "d.npz"


def scored(path: Path, model: Predictor, metric: str | None = None) -> tuple[str, float]:
    specs = [TensorSpec(name=s.name, dtype=s.dtype, shape=s.shape[1:]) for s in model.session.inputs]
    found = answers(model, open_dataset(path, specs, model.session.outputs), metric=metric)
    judged = chosen_metric(metric, found, str(path))
    return judged.name, judged.score(found.outputs, found.targets)


def test_boxes_ask_for_map_and_a_perfect_head_scores_one(tmp_path):
    heads, boxes, classes = scenes()
    assert scored(saved(tmp_path, x=heads, boxes=boxes, classes=classes), detector()) == ("map", pytest.approx(1))


def test_a_head_of_middles_and_sizes_is_noticed(tmp_path):
    heads, boxes, classes = scenes()
    heads[..., 2:4] -= heads[..., :2]
    heads[..., :2] += heads[..., 2:4] / 2
    path = saved(tmp_path, x=heads, boxes=boxes, classes=classes)
    assert scored(path, detector(), "map50") == ("map50", pytest.approx(1))


def test_a_head_in_shares_of_the_input_is_noticed(tmp_path):
    heads, boxes, classes = scenes()
    heads[..., :4] /= (4 + CLASSES, ANCHORS, 4 + CLASSES, ANCHORS)
    assert scored(saved(tmp_path, x=heads, boxes=boxes, classes=classes), detector())[1] == pytest.approx(1, abs=1e-4)


def test_a_transposed_head_and_a_pair_of_outputs_are_read(tmp_path):
    heads, boxes, classes = scenes()
    path = saved(tmp_path, x=heads, boxes=boxes, classes=classes)
    shape = ["batch", ANCHORS, 4 + CLASSES]
    turned = predictor(
        [helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 1])],
        [("x", shape)], [("y", ["batch", 4 + CLASSES, ANCHORS])],
    )  # fmt: skip
    split = helper.make_node("Split", ["x", "sizes"], ["b", "s"], axis=2)
    sizes = helper.make_node("Constant", [], ["sizes"], value_ints=[4, CLASSES])
    pair = predictor(
        [sizes, split], [("x", shape)], [("b", ["batch", ANCHORS, 4]), ("s", ["batch", ANCHORS, CLASSES])]
    )  # fmt: skip
    assert scored(path, turned)[1] == pytest.approx(1)
    assert scored(path, pair)[1] == pytest.approx(1)


def test_a_said_step_is_taken_at_its_word(tmp_path):
    heads, boxes, classes = scenes()
    wrong = detector(postprocess=(Detect(layout="rows", box_format="cxcywh"),))
    assert scored(saved(tmp_path, x=heads, boxes=boxes, classes=classes), wrong)[1] < 0.5


def test_a_head_that_holds_nan_is_told(tmp_path):
    heads, boxes, classes = scenes()
    plain = predictor(
        [helper.make_node("Div", ["x", "x"], ["y"])],
        [("x", ["batch", ANCHORS, 4 + CLASSES])], [("y", ["batch", ANCHORS, 4 + CLASSES])],
    )  # fmt: skip
    with pytest.raises(Failed, match="NaN"):
        scored(saved(tmp_path, x=heads, boxes=boxes, classes=classes), plain)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": None}, "has boxes but no classes"),
        ({"boxes": np.zeros((20, 4, 3))}, "wanted 20 x most x 4 numbers"),
        ({"boxes": np.zeros((3, 4, 4))}, "wanted 20 x most x 4 numbers"),
        ({"classes": np.zeros((20, 3), int)}, "wanted 20x4 whole numbers"),
        ({"classes": np.zeros((20, 4))}, "wanted 20x4 whole numbers"),
        ({"boxes": np.full((20, 4, 4), np.nan)}, "not finite"),
        ({"boxes": np.tile([5.0, 5, 2, 2], (20, 4, 1))}, "ends before it begins"),
        ({"classes": np.full((20, 4), -1)}, "no image has a true box"),
        ({"classes": np.full((20, 4), 7), "boxes": np.ones((20, 4, 4))}, r"of class 7, the model knows classes 0\.\.2"),
    ],
)
def test_boxes_that_cannot_be_are_told(tmp_path, change, words):
    heads, boxes, classes = scenes()
    arrays = {"x": heads, "boxes": boxes, "classes": classes} | change
    with pytest.raises(WrongInput, match=words):
        scored(saved(tmp_path, **{name: array for name, array in arrays.items() if array is not None}), detector())


def test_a_metric_that_does_not_fit_the_labels_is_told(tmp_path):
    heads, boxes, classes = scenes()
    with pytest.raises(WrongInput, match="the labels are boxes, which top1 cannot judge; map or map50 can"):
        scored(saved(tmp_path, x=heads, boxes=boxes, classes=classes), detector(), "top1")
    with pytest.raises(WrongInput, match="miou wants masks, and there are none"):
        scored(saved(tmp_path, x=heads, labels=np.arange(20) % 2), detector(), "miou")


def test_a_head_we_do_not_read_is_told(tmp_path):
    vector = predictor(
        [helper.make_node("ReduceMax", ["x"], ["y"], axes=[2], keepdims=0)],
        [("x", ["batch", ANCHORS, 4 + CLASSES])], [("y", ["batch", ANCHORS])],
    )  # fmt: skip
    heads, boxes, classes = scenes()
    with pytest.raises(WrongInput, match="no detection head that we read"):
        scored(saved(tmp_path, x=heads, boxes=boxes, classes=classes), vector)


def segmenter(height: int, width: int, **steps) -> Predictor:
    """Scores of two classes for each pixel of a grey picture in NCHW: dark, bright."""
    nodes = [
        helper.make_node("Constant", [], ["middle"], value_float=127.5),
        helper.make_node("Sub", ["x", "middle"], ["bright"]),
        helper.make_node("Neg", ["bright"], ["dark"]),
        helper.make_node("Concat", ["dark", "bright"], ["y"], axis=1),
    ]
    return predictor(
        nodes, [("x", ["batch", 1, height, width])], [("y", ["batch", 2, height, width])],
        preprocess=(*steps.get("steps", ()), ToLayout(layout="NCHW")),
    )  # fmt: skip


def picture_folder(root: Path, count: int = 4) -> None:
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for number in range(count):
        mask = np.zeros((40, 30 + 10 * number), np.uint8)
        mask[10:30, 5:20] = 1
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        Image.fromarray(mask * 255).save(root / "images" / f"{number}.png")


def test_masks_beside_images_of_several_sizes_are_brought_to_the_answer(tmp_path):
    picture_folder(tmp_path)
    for keep_aspect in (False, True):
        model = segmenter(80, 120, steps=[Resize(height=80, width=120, keep_aspect=keep_aspect)])
        name, score = scored(tmp_path, model)
        assert name == "miou"
        assert 0.9 < score <= 1


def test_masks_in_an_npz(tmp_path):
    masks = GENERATOR.integers(0, 2, (5, 8, 8))
    images = (masks * 255).astype(np.uint8)[..., None]
    assert scored(saved(tmp_path, x=images, masks=masks), segmenter(8, 8)) == ("miou", 1)
    masks[:, 0] = 1 - masks[:, 0]
    assert 0.7 < scored(saved(tmp_path, x=images, masks=masks), segmenter(8, 8))[1] < 0.85


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 1, 8, 8), (5, 8, 8, 1)])
def test_labels_of_a_class_for_each_pixel_are_masks(tmp_path, shape):
    masks = GENERATOR.integers(0, 2, (5, 8, 8))
    images = (masks * 255).astype(np.uint8)[..., None]
    assert scored(saved(tmp_path, x=images, labels=masks.reshape(shape)), segmenter(8, 8)) == ("miou", 1)


def test_label_bytes_are_those_of_the_masks_wherever_they_stand(tmp_path):
    grey = TensorSpec(name="x", dtype="float32", shape=(40, 40, 1))
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        picture_folder(tmp_path / place)
    one, other = (open_dataset(tmp_path / place, [grey]) for place in ("one", "other"))
    assert one.label_bytes() == other.label_bytes()
    Image.new("L", (30, 40)).save(tmp_path / "other" / "masks" / "0.png")
    assert one.label_bytes() != other.label_bytes()


def test_masks_that_cannot_be_are_told(tmp_path):
    picture_folder(tmp_path)
    model = segmenter(40, 40, steps=[Resize(height=40, width=40)])
    (tmp_path / "masks" / "2.png").write_bytes(b"no image")
    with pytest.raises(WrongInput, match="mask cannot be decoded"):
        scored(tmp_path, model)
    Image.new("RGB", (50, 40)).save(tmp_path / "masks" / "2.png")
    with pytest.raises(WrongInput, match="one byte per pixel"):
        scored(tmp_path, model)
    Image.new("L", (5, 4)).save(tmp_path / "masks" / "2.png")
    with pytest.raises(WrongInput, match="the mask is 4x5, the image 40x50"):
        scored(tmp_path, model)
    (tmp_path / "masks" / "2.png").unlink()
    with pytest.raises(WrongInput, match="1 of 4 images have no mask"):
        scored(tmp_path, model)


def coco_folder(root: Path, **changes) -> None:
    (root / "images").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        Image.new("L", (30, 20)).save(root / "images" / name)
    text = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
        "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}],
        "annotations": [
            {"image_id": 9, "category_id": 3, "bbox": [1, 2, 10, 5]},
            {"image_id": 9, "category_id": 1, "bbox": [0, 0, 4, 4], "iscrowd": 1},
        ],
    } | changes
    (root / "annotations.json").write_text(json.dumps(text))


GREY = TensorSpec(name="x", dtype="float32", shape=(20, 30, 1))


def test_boxes_of_a_coco_file(tmp_path):
    coco_folder(tmp_path)
    data = open_dataset(tmp_path, [GREY])
    assert (data.annotation, data.class_names) == ("boxes", ("cat", "dog"))
    assert data.labels.tolist() == [[[-1] * 5], [[1, 2, 11, 7, 1]]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": [{"id": 7, "file_name": "a.png"}]}, "lists no image images/b.png"),
        ({"images": None}, "no COCO file"),
        ({"annotations": [{"image_id": 9, "category_id": 3}]}, "no COCO file"),
        ({"annotations": [{"image_id": 8, "category_id": 3, "bbox": [0, 0, 1, 1]}]}, "a listed image and category"),
        ({"annotations": [{"image_id": 9, "category_id": 3, "bbox": [0, 0, 1]}]}, "wants 4 numbers"),
        ({"annotations": [{"image_id": 9, "category_id": 3, "bbox": [0, 0, -1, 1]}]}, "-1 x 1 pixels"),
        ({"annotations": [{"image_id": 9, "category_id": 3, "bbox": "none"}]}, "no COCO file"),
    ],
)
def test_a_coco_file_that_cannot_be_is_told(tmp_path, changes, words):
    coco_folder(tmp_path, **changes)
    with pytest.raises(WrongInput, match=words):
        open_dataset(tmp_path, [GREY])


def test_a_coco_file_that_is_cut_off_or_lists_what_is_not_there_is_told(tmp_path):
    coco_folder(tmp_path)
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(WrongInput, match=r"lists a\.png, which is not there"):
        open_dataset(tmp_path, [GREY])
    (tmp_path / "annotations.json").write_text('{"images": [')
    with pytest.raises(WrongInput, match="no readable JSON"):
        open_dataset(tmp_path, [GREY])


def test_a_class_folder_called_masks_is_a_class(tmp_path):
    for name in ("masks", "hats"):
        (tmp_path / name).mkdir()
        Image.new("L", (30, 20)).save(tmp_path / name / "a.png")
    assert open_dataset(tmp_path, [GREY]).class_names == ("hats", "masks")


def test_cosine_compares_with_given_vectors(tmp_path):
    vectors = GENERATOR.normal(size=(6, 5)).astype(np.float32)
    same = predictor([helper.make_node("Neg", ["x"], ["y"])], [("x", ["batch", 5])], [("y", ["batch", 5])])
    path = saved(tmp_path, x=vectors, labels=vectors)
    assert scored(path, same, "cosine") == ("cosine", pytest.approx(-1))
