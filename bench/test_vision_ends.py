"""The two ends of a vision model: bytes that enter an integer kernel as they are, heads in one, and boxes out of them.

`python -m pytest bench/test_vision_ends.py -s` prints ratios; nothing here asserts a time. The networks have random
weights, by which speed does not go.
"""

import gc
import os
from collections.abc import Callable
from time import perf_counter_ns

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import runtimes
from edgeward.infer.postprocess import boxes_and_scores, detections_of, kept_of
from edgeward.measure.one_cpu import on_one_cpu
from edgeward.measure.statistics import median_ratio_interval
from edgeward.optimize import passes
from edgeward.records.candidate import Step
from edgeward.records.model import Detect, Normalize, Preprocess, ToLayout

GENERATIONS, ROUNDS, RUNS = 5, 60, 5
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BEYOND_BYTES = 1.05
"""No byte is that mean, so that it stays arithmetic; by values speed does not go."""
HEIGHT, WIDTH = 96, 128
QUANTIZE = {"activations": "uint8", "per_channel": True, "reduce_range": True, "entry": "cast", "float_tail": True}


def network(generator: np.random.Generator, heads: dict[str, int] | None = None) -> onnx.ModelProto:
    """Convolutions that halve the frame five times, padded with zeros; `heads`, by the numbers that they give at each
    place, on the last two scales."""
    nodes, weights, value, channels = [], {}, "x", 3
    for number, wider in enumerate((16, 32, 64, 96, 128)):
        weights[f"w{number}"] = generator.normal(size=(wider, channels, 3, 3)) / np.sqrt(9 * channels)
        weights[f"b{number}"] = generator.normal(size=wider)
        names = [value, f"w{number}", f"b{number}"]
        nodes.append(helper.make_node("Conv", names, [f"c{number}"], pads=[1] * 4, strides=[2, 2]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        value, channels = f"r{number}", wider
    for head, outputs in (heads or {}).items():
        for number, before in ((3, 96), (4, 128)):
            weights[f"w{head}{number}"] = generator.normal(size=(outputs, before, 1, 1)) / np.sqrt(before)
            weights[f"b{head}{number}"] = generator.normal(size=outputs)
            weights[f"s{head}"] = np.array([0, outputs, -1])
            made = f"{head}{number}"
            nodes.append(helper.make_node("Conv", [f"r{number}", f"w{made}", f"b{made}"], [made]))
            nodes.append(helper.make_node("Reshape", [made, f"s{head}"], [f"f{made}"]))
        nodes.append(helper.make_node("Concat", [f"f{head}3", f"f{head}4"], [head], axis=2))
    if heads is None:
        nodes.append(helper.make_node("GlobalAveragePool", [value], ["y"]))
    else:
        nodes.append(helper.make_node("Concat", list(heads), ["y"], axis=1))
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, HEIGHT, WIDTH]),
        helper.make_tensor_value_info(
            "y", TensorProto.FLOAT, ["batch", "n", *(["m", "k"] if heads is None else ["m"])]
        ),
    ]
    constants = [
        numpy_helper.from_array(values if values.dtype.kind == "i" else values.astype(np.float32), name)
        for name, values in weights.items()
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_turn(calls: dict[str, Callable[[int], object]]) -> dict[str, np.ndarray]:
    """Milliseconds of each call, rounds × runs, in a new order each round."""
    taken: dict[str, list[list[float]]] = {name: [] for name in calls}
    generator = np.random.default_rng(0)
    gc.collect()
    gc.disable()
    try:
        for number in range(ROUNDS):
            for name in generator.permutation(list(calls)):
                calls[name](number)
                row = []
                for _ in range(RUNS):
                    begin = perf_counter_ns()
                    calls[name](number)
                    row.append((perf_counter_ns() - begin) / 1e6)
                taken[name].append(row)
    finally:
        gc.enable()
    return {name: np.array(rows) for name, rows in taken.items()}


def report(what: str, parts: list[dict[str, np.ndarray]]) -> None:
    times = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    base = next(iter(times.values()))
    for name, mine in times.items():
        ratio, interval = median_ratio_interval(mine, base, seed=0)
        print(
            f"{what}: {name} {np.median(mine):.4f} ms, {ratio:.3f} [{interval[0]:.3f}, {interval[1]:.3f}] of its time, "
            f"n {mine.size}"
        )


def quantised(
    model: onnx.ModelProto, frames: list[dict[str, np.ndarray]], mean: tuple[float, ...], *heads: str
) -> onnx.ModelProto:
    """As the search makes it for OpenVINO; `heads` are the passes that see to heads."""
    left: Preprocess = (Normalize(mean=mean, std=DEVIATION), ToLayout(layout="NCHW"))
    several = [(use, {}) for use in heads]
    for use, options in (("fold-preprocess", {"pixels": True}), *several, ("quantize-static", QUANTIZE)):
        context = passes.Context(frames, "image", left)
        model, left, _ = passes.load(use).apply(model, Step(use=use, options=options), context)
    return model


def test_bytes_enter_with_the_mean_as_zero_point() -> None:
    pytest.importorskip("openvino")
    generator = np.random.default_rng(0)
    frames = [{"x": generator.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)} for _ in range(16)]
    given = network(generator)
    made = {
        "arithmetic on pixels": quantised(given, frames, (*MEAN[:2], BEYOND_BYTES)),
        "the mean as zero point": quantised(given, frames, MEAN),
    }
    race_in_openvino(f"{HEIGHT} x {WIDTH} frame, int8 in OpenVINO", made, frames)


def test_heads_are_joined() -> None:
    pytest.importorskip("openvino")
    generator = np.random.default_rng(0)
    frames = [{"x": generator.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)} for _ in range(16)]
    given = network(generator, {"boxes": 4, "scores": 10})
    made = {"two heads on each scale": quantised(given, frames, MEAN)}
    made["one of both"] = quantised(given, frames, MEAN, "join-heads")
    race_in_openvino(f"{HEIGHT} x {WIDTH} frame, two scales, int8 in OpenVINO", made, frames)


def race_in_openvino(what: str, made: dict[str, onnx.ModelProto], frames: list[dict[str, np.ndarray]]) -> None:
    feeds = [{"x": frame["x"][None]} for frame in frames]
    parts = []
    for _ in range(GENERATIONS):
        sessions = {
            name: runtimes.load("openvino").load(model.SerializeToString(), threads=1) for name, model in made.items()
        }
        calls = {
            name: (lambda number, run=session.run: run(feeds[number % len(feeds)]))
            for name, session in sessions.items()
        }
        with on_one_cpu([os.getpid()]):
            parts.append(in_turn(calls))
    report(what, parts)


def looked_at_each(step: Detect, outputs: list[np.ndarray]) -> np.ndarray:
    """Every score in 64 bits and through its sigmoid first, as the formula is written down."""
    boxes, scores = boxes_and_scores(step, outputs)
    places, labels = np.nonzero(scores >= step.score_threshold)
    order = np.argsort(-scores[places, labels], kind="stable")[:1000]
    places, labels = places[order], labels[order]
    half = boxes[places, 2:] / 2
    corners = np.concatenate([boxes[places, :2] - half, boxes[places, :2] + half], axis=1)
    kept = kept_of(corners.T, labels, iou_threshold=step.iou_threshold, most=step.most)
    return np.column_stack([corners[kept], scores[places, labels][kept], labels[kept]]).astype(np.float32)


@pytest.mark.parametrize(("anchors", "classes", "sigmoid"), [(240, 10, False), (8400, 80, False), (8400, 80, True)])
def test_boxes_of_a_head(anchors: int, classes: int, sigmoid: bool) -> None:
    generator = np.random.default_rng(0)
    boxes = generator.random((4, anchors)) * np.array([[640], [640], [100], [100]])
    scores = generator.normal(size=(classes, anchors)) * 1.5 - 6
    scores = scores if sigmoid else 1 / (1 + np.exp(-scores))
    outputs = [np.concatenate([boxes, scores]).astype(np.float32)]
    step = Detect(layout="columns", box_format="cxcywh", sigmoid=sigmoid)
    ours = detections_of(step, outputs, height=640, width=640)
    np.testing.assert_allclose(ours, looked_at_each(step, outputs), rtol=1e-5)
    calls: dict[str, Callable[[int], object]] = {
        "each score looked at": lambda _: looked_at_each(step, outputs),
        "as Edgeward does it": lambda _: detections_of(step, outputs, height=640, width=640),
    }
    what = f"head of {anchors} x {classes}{', sigmoid' if sigmoid else ''}, {len(ours)} boxes"
    report(what, [in_turn(calls) for _ in range(GENERATIONS)])
