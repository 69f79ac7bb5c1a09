"""What a Predictor costs beside a bare loop of the same numpy preprocessing and session.run, interleaved.

`python -m pytest bench/test_pipeline_overhead.py -s` prints a table; nothing here asserts a time.
"""

import gc
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import Predictor, runtimes
from edgeward.records.model import Classify, Normalize, Preprocess, ToLayout

ROUNDS = 3000
WARM_UP = 200
RESNET = Path(__file__).resolve().parents[2] / "shared/data/mlperf-tiny/resnet8-float.onnx"


def small_network() -> bytes:
    """Two convolutions over 3 × 32 × 32 floats."""
    generator = np.random.default_rng(1)
    shapes = {"w1": (8, 3, 3, 3), "w2": (16, 8, 3, 3), "w3": (16, 10)}
    weights = {name: generator.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], strides=[2, 2]),
        helper.make_node("ReduceMean", ["c"], ["d"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["d", "w3"], ["scores"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [info("x", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [info("scores", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def test_overhead_on_a_small_network() -> None:
    report("small network", small_network(), (Normalize(mean=(0.5,), std=(0.25,)), ToLayout(layout="NCHW")))


def test_overhead_on_resnet8() -> None:
    if not RESNET.is_file():
        pytest.skip(f"there is no {RESNET.name} beside this repository")
    report("ResNet-8", RESNET.read_bytes(), (Normalize(mean=(0.0,), std=(1.0,), scale=1.0),))


def report(name: str, model: bytes, steps: Preprocess) -> None:
    """Both ways agree on the answer; their times are printed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    bare = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = bare.get_inputs()[0].name
    predictor = Predictor(
        runtimes.load("onnxruntime").load(model, threads=1), preprocess=steps, postprocess=(Classify(),)
    )
    normalize = next(step for step in steps if isinstance(step, Normalize))
    gain = np.float32(normalize.scale / normalize.std[0])
    offset = np.float32(-normalize.mean[0] / normalize.std[0])
    planes_first = any(isinstance(step, ToLayout) for step in steps)

    def by_hand(image: np.ndarray) -> int:
        tensor = np.add(np.multiply(image, gain, dtype=np.float32), offset, dtype=np.float32)
        tensor = tensor.transpose(2, 0, 1) if planes_first else tensor
        return int(bare.run(None, {feed: tensor[None]})[0][0].argmax())

    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    for image in images:
        assert predictor.answer({feed: image}).classes[0].index == by_hand(image)
    ours, theirs = timed(lambda image: predictor.answer({feed: image}), by_hand, images)
    show(name, ours, theirs)


def timed(ours, theirs, images) -> tuple[np.ndarray, np.ndarray]:
    """Microseconds of both, in turn, each first in every other round."""
    taken = np.empty((2, ROUNDS))
    gc.collect()
    gc.disable()
    for index in range(-WARM_UP, ROUNDS):
        image = images[index % len(images)]
        for place in (0, 1) if index % 2 else (1, 0):
            begin = perf_counter_ns()
            (ours, theirs)[place](image)
            taken[place, max(index, 0)] = (perf_counter_ns() - begin) / 1000
    gc.enable()
    return taken[0], taken[1]


def show(name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    print(f"\n{name}, n {ROUNDS} each, interleaved, 1 thread\n            p50 µs    p99 µs")
    for label, times in (("predictor", ours), ("bare loop", theirs)):
        print(f"{label:<10}{np.median(times):>8.1f}{np.quantile(times, 0.99):>10.1f}")
    more = float(np.median(ours) - np.median(theirs))
    print(f"difference{more:>8.1f} µs, {100 * more / np.median(theirs):.1f} % at p50")
