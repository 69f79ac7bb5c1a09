"""A detector that needs no training: red and green squares on dark ground, in cells of 32 pixels."""

import numpy as np
import onnx
from onnx import numpy_helper, parser

from edgeward.infer import Sample
from edgeward.records.model import Detect, Normalize, Preprocess, ToLayout

SIDE, CELL = 256, 32
CELLS = (SIDE // CELL) ** 2
STEPS: Preprocess = (Normalize(), ToLayout(layout="NCHW"))
DETECT = Detect(layout="columns", box_format="cxcywh")

TEXT = f"""<ir_version: 8, opset_import: ["": 17]>
detector (float[batch,3,{SIDE},{SIDE}] image) => (float[batch,6,{CELLS}] detections) {{
  seen = Conv <strides = [{CELL}, {CELL}], kernel_shape = [{CELL}, {CELL}]> (image, seen_w, seen_b)
  used = Relu (seen)
  box_map = Conv (used, box_w, box_b)
  score_map = Conv (used, score_w, score_b)
  box_shape = Constant <value = int64[3] {{0, 4, -1}}> ()
  score_shape = Constant <value = int64[3] {{0, 2, -1}}> ()
  raw_boxes = Reshape (box_map, box_shape)
  raw_scores = Reshape (score_map, score_shape)
  sized = Mul (raw_boxes, stride)
  boxes = Add (sized, middles)
  scores = Sigmoid (raw_scores)
  detections = Concat <axis = 1> (boxes, scores)
}}"""


def detector() -> onnx.ModelProto:
    """Boxes (middle and size) in pixels beside scores of 0..1. A full square scores about 0.95, a pale one about 0.6;
    only the full ones count as objects."""
    model = parser.parse_model(TEXT)
    mean = np.full((CELL, CELL), 1 / CELL**2)
    red, green = np.array([1.0, -1.0, 0.0]), np.array([-1.0, 1.0, 0.0])
    rows, columns = np.mgrid[: SIDE // CELL, : SIDE // CELL]
    middles = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5, np.zeros(CELLS), np.zeros(CELLS)]) * CELL
    constants = {
        "seen_w": np.stack([red, green])[:, :, None, None] * mean, "seen_b": np.zeros(2),
        "box_w": np.full((4, 2, 1, 1), 1e-3), "box_b": np.array([0.0, 0.0, 1.0, 1.0]),
        "score_w": 5.8 * np.eye(2)[:, :, None, None], "score_b": np.full(2, -2.5),
        "stride": np.array(float(CELL)), "middles": middles[None],
    }  # fmt: skip
    model.graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def scenes(count: int, seed: int = 0) -> tuple[list[Sample], np.ndarray, np.ndarray]:
    """Pictures, the boxes of the full squares in them (corners), and their classes; -1 fills up."""
    generator = np.random.default_rng(seed)
    samples, most = [], 6
    boxes, classes = np.full((count, most, 4), -1, np.float32), np.full((count, most), -1, np.int64)
    for scene in range(count):
        image = generator.integers(0, 25, (SIDE, SIDE, 3)).astype(np.uint8)
        places = generator.permutation(CELLS)[: 2 * most]
        for number, place in enumerate(places):
            top, left = place // (SIDE // CELL) * CELL, place % (SIDE // CELL) * CELL
            label, is_full = int(generator.integers(2)), number < most
            strength = generator.uniform(220, 255) if is_full else generator.uniform(120, 140)
            image[top : top + CELL, left : left + CELL] = 0
            image[top : top + CELL, left : left + CELL, label] = strength
            if is_full:
                boxes[scene, number], classes[scene, number] = (left, top, left + CELL, top + CELL), label
        samples.append({"image": image})
    return samples, boxes, classes
