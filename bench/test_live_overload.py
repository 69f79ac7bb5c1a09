"""A live source that gives twice as many samples as the model can answer: how old are the answers, and what grows?

The queue is told that nothing older than two of the model's own times is worth having, as somebody would who minds.

`python -m pytest bench/test_live_overload.py -s --overload-s 600` prints a table; nothing here asserts a time.
"""

import gc
from pathlib import Path
from time import monotonic, perf_counter

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import Predictor, runtimes
from edgeward.records.model import Normalize, TensorSpec, ToLayout
from edgeward.records.pipeline import QueueOptions
from edgeward.serve import Flow, Running, sinks
from edgeward.serve.parts import source_of
from edgeward.serve.results import Result
from edgeward.serve.sources import Wanted

SIDE = 640
OVERLOAD = 2.0
WANTED = Wanted("camera", "image", (TensorSpec(name="x", dtype="uint8", shape=(SIDE, SIDE, 3)),))


def network() -> bytes:
    """Three convolutions over a picture of 640 × 640: tens of milliseconds on one thread."""
    generator = np.random.default_rng(1)
    shapes = {"w1": (16, 3, 3, 3), "w2": (32, 16, 3, 3), "w3": (32, 32, 3, 3)}
    weights = {name: generator.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "w3"], ["e"]),
        helper.make_node("ReduceMean", ["e"], ["y"], axes=[2, 3], keepdims=0),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "camera",
        [info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])], [info("y", TensorProto.FLOAT, ["n", 32])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def predictor() -> Predictor:
    steps = (Normalize(), ToLayout(layout="NCHW"))
    return Predictor(runtimes.load("onnxruntime").load(network(), threads=1), preprocess=steps)


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def test_twice_as_many_samples_as_can_be_answered(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    seconds = request.config.getoption("--overload-s")
    pictures = np.random.default_rng(0).integers(0, 256, (16, SIDE, SIDE, 3), dtype=np.uint8)
    np.savez(tmp_path / "camera.npz", x=pictures)
    model = predictor()
    took_s = np.median([timed(model, pictures[number % 16]) for number in range(100)])
    rate_hz = OVERLOAD / took_s
    source = {"use": "replay", "path": str(tmp_path / "camera.npz"), "rate_hz": float(rate_hz), "repeat": True}
    jsonl = sinks.load("jsonl")
    outlet = jsonl.open(jsonl.options(path=str(tmp_path / "answers.jsonl"), max_bytes=10_000_000, keep=1), "overload")
    ages: list[float] = []
    alone: list[float] = []
    moments: list[float] = []
    memory: list[tuple[float, float]] = []
    end_s = monotonic() + seconds

    def see(result: Result) -> None:
        ages.append(result.age_ms or 0.0)
        answer = result.answer
        alone.append(answer.pre_ms + answer.infer_ms + answer.post_ms)
        moments.append(perf_counter())
        if len(ages) % 50 == 0:
            memory.append((perf_counter(), rss_mb()))
        if monotonic() > end_s:
            one.stop()

    gc.collect()
    flow = Flow(queue=QueueOptions(max_age_ms=2e3 * took_s))
    one = Running(lambda: model, source_of(source), WANTED, [("jsonl", outlet)], flow=flow, tell=print, seen=see)
    counts = one.run()
    show(np.array(ages), np.array(alone), np.diff(moments) * 1e3, 1e3 / rate_hz, memory)
    told = f"captured {counts.captured}, answered {counts.answered}, dropped {counts.dropped}, too old {counts.too_old}"
    print(
        f"{told}, sinks {counts.sinks}; source {rate_hz:.0f}/s, {counts.captured / counts.answered:.2f} × the answers"
    )
    assert counts.captured == counts.answered + counts.dropped + counts.too_old, "every sample is accounted for"


def timed(model: Predictor, picture: np.ndarray) -> float:
    began = perf_counter()
    model.answer({"x": picture})
    return perf_counter() - began


def show(
    ages: np.ndarray, alone: np.ndarray, periods: np.ndarray, source_ms: float, memory: list[tuple[float, float]]
) -> None:
    ages, alone, periods = ages[20:], alone[20:], periods[20:]  # the first ones warm caches up
    period_ms = float(periods.mean())
    print(
        f"\nn {len(ages)}, a result each {period_ms:.2f} ms (p50 {np.median(periods):.2f}), a sample {source_ms:.2f} ms"
    )
    print("age of a result      p50      p99      max")
    for name, unit in (("ms", 1.0), ("result periods", period_ms), ("sample periods", source_ms)):
        values = [*np.quantile(ages, (0.5, 0.99)), ages.max()]
        print(f"{name:<15}" + "".join(f"{value / unit:>9.2f}" for value in values))
    for name, parts in (("of it, model ms", alone), ("and waiting ms", ages - alone)):
        print(f"{name:<15}" + "".join(f"{value:>9.2f}" for value in (*np.quantile(parts, (0.5, 0.99)), parts.max())))
    over = int((ages > 2 * period_ms).sum())
    halves = np.array_split(ages, 2)
    print(f"older than two result periods: {over} ({100 * over / len(ages):.3f} %)")
    print(f"p50 of the first half {np.median(halves[0]):.2f} ms, of the second {np.median(halves[1]):.2f} ms")
    if len(memory) > 8:
        times, sizes = np.array(memory[len(memory) // 4 :]).T
        slope = np.polyfit((times - times[0]) / 60, sizes, 1)[0]
        print(f"RSS {sizes[0]:.1f} MB → {sizes[-1]:.1f} MB, {slope:+.3f} MB a minute")
