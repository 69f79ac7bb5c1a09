"""What steps around a model cost, and whether those that could live in the graph should. Each pair is interleaved.

`python -m pytest bench/test_steps.py -s` prints tables; nothing here asserts a time.
"""

from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import Predictor, Sample, runtimes
from edgeward.infer.answer import Answer, Box
from edgeward.infer.assignment import best_pairs
from edgeward.infer.sound import log_mel, mel_tables
from edgeward.infer.stream import begin, follow
from edgeward.optimize import passes
from edgeward.records.candidate import Step
from edgeward.records.model import LogMel, Standardize
from edgeward.records.stream import Line, Lines, Track, Zone, Zones

FRAMES = (
    LogMel(sample_rate=16000, frame_length=480, hop_length=320, mel_count=40, low_hz=20.0, high_hz=7600.0),
    LogMel(sample_rate=16000, frame_length=400, hop_length=160, mel_count=64, low_hz=125.0, high_hz=7500.0),
    LogMel(sample_rate=8000, frame_length=256, hop_length=128, mel_count=40, low_hz=20.0, high_hz=3800.0),
)


def raced(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Microseconds of each, in turn, after a tenth of the rounds to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + rounds // 10):
        for name, way in ways.items():
            began = perf_counter_ns()
            way()
            taken[name].append((perf_counter_ns() - began) / 1000)
    return {name: np.array(times[rounds // 10 :]) for name, times in taken.items()}


def show(title: str, times: Mapping[str, np.ndarray]) -> None:
    print(f"\n{title}, n {len(next(iter(times.values())))} each")
    for name, one in times.items():
        print(f"  {name:<28}p50 {np.median(one):>9.1f} µs   p95 {np.quantile(one, 0.95):>9.1f} µs")


def test_log_mel_in_numpy_and_as_a_convolution() -> None:
    for step in FRAMES:
        wave = np.random.default_rng(0).normal(0, 0.1, step.sample_rate).astype(np.float32)
        session = runtimes.load("onnxruntime").load(mel_graph(step), threads=1)
        window, bank = mel_tables(step)

        def in_graph(session: Any = session, wave: np.ndarray = wave) -> np.ndarray:
            return session.run({"x": wave[None]})[0][0]  # type: ignore[no-any-return]

        def with_threads(step: LogMel = step, wave: np.ndarray = wave, window: Any = window, bank: Any = bank) -> Any:
            frames = np.lib.stride_tricks.sliding_window_view(wave, step.frame_length)[:: step.hop_length]
            power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
            return np.log(power @ bank + step.floor).astype(np.float32)

        def here(step: LogMel = step, wave: np.ndarray = wave) -> np.ndarray:
            return log_mel(wave, step)

        assert np.abs(in_graph() - here()).max() < 1e-3
        assert np.abs(with_threads() - here()).max() < 1e-5
        ways = {"NumPy": here, "graph, one thread": in_graph, "NumPy, BLAS with threads": with_threads}
        show(f"log-mel, {step.frame_length} every {step.hop_length}, {step.mel_count} mels, a second", raced(ways, 200))


def mel_graph(step: LogMel) -> bytes:
    """Windowed Fourier basis as a convolution, squares, mel bank, logarithm."""
    window, bank = mel_tables(step)
    used = np.flatnonzero(bank.any(axis=1))
    angles = 2 * np.pi * np.outer(used, np.arange(step.frame_length)) / step.frame_length
    basis = np.concatenate([np.cos(angles), np.sin(angles)]) * window
    constants = {
        "axis": np.array([1], np.int64), "basis": basis[:, None].astype(np.float32),
        "bank": np.concatenate([bank[used], bank[used]]).T[None].astype(np.float32),
        "floor": np.array([step.floor], np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["line"]),
        helper.make_node("Conv", ["line", "basis"], ["waves"], strides=[step.hop_length]),
        helper.make_node("Mul", ["waves", "waves"], ["power"]),
        helper.make_node("MatMul", ["bank", "power"], ["mels"]),
        helper.make_node("Transpose", ["mels"], ["frames"], perm=[0, 2, 1]),
        helper.make_node("Add", ["frames", "floor"], ["above"]),
        helper.make_node("Log", ["above"], ["y"]),
    ]
    return made(nodes, [1, step.sample_rate], constants).SerializeToString()  # type: ignore[no-any-return]


def made(nodes: list[Any], shape: list[Any], constants: Mapping[str, np.ndarray]) -> Any:
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, shape)], [info("y", TensorProto.FLOAT, None)], tensors
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_standardising_outside_and_in_the_graph() -> None:
    generator = np.random.default_rng(0)
    weights = {
        "w": generator.normal(size=(16, 32)),
        "b": np.zeros(32),
        "v": generator.normal(size=(32, 4)),
        "c": np.zeros(4),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "v", "c"], ["y"]),
    ]  # fmt: skip
    model = made(nodes, ["batch", 16], {name: value.astype(np.float32) for name, value in weights.items()})
    steps = (Standardize(mean=tuple(range(16)), std=(2.0,) * 16),)
    sample: Sample = {"x": generator.normal(size=16).astype(np.float32)}
    context = passes.Context([sample], "tensor", steps)
    inside: onnx.ModelProto = passes.load("fold-preprocess").apply(model, Step(use="fold-preprocess"), context).model
    leading = Step(use="fold-leading", options={"rounded": False})
    inside = passes.load("fold-leading").apply(inside, leading, context._replace(preprocess=())).model
    ways = {}
    for name, graph, kept in (("step before the graph", model, steps), ("in its first weights", inside, ())):
        session = runtimes.load("onnxruntime").load(graph.SerializeToString(), threads=1)
        predictor = Predictor(session, preprocess=kept)
        ways[name] = lambda predictor=predictor: predictor.answer(sample).outputs["y"]
    before, after = (way() for way in ways.values())
    assert np.allclose(before, after, rtol=1e-4, atol=1e-4)
    show("16 columns, two dense layers, sample to answer", raced(ways, 3000))


def test_following_a_stream() -> None:
    steps = (
        Track(),
        Zones(zones=(Zone(name="left", polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1))),)),
        Lines(lines=(Line(name="middle", start=(0.5, 1), end=(0.5, 0)),)),
    )
    for count in (1, 10, 50, 100):
        stream, taken = begin(steps), []
        for number in range(120):
            answer = crowd(count, number)
            began = perf_counter_ns()
            stream, _ = follow(stream, answer, number / 10)
            taken.append((perf_counter_ns() - began) / 1000)
        show(f"{count} objects, tracked, in zones, over lines", {"an answer": np.array(taken[20:])})


def crowd(count: int, number: int) -> Answer:
    generator = np.random.default_rng(1)
    places = generator.uniform(0, 1000, (count, 2)) + number * generator.uniform(-2, 2, (count, 2))
    boxes = tuple(Box("person", 0, 0.9, x - 20, y - 20, x + 20, y + 20) for x, y in places.tolist())
    return Answer({}, (), 0, 0, 0, boxes=boxes, size=(1000, 1000))


def test_pairing_exactly_and_greedily() -> None:
    generator = np.random.default_rng(0)
    for count, share in ((10, 0.2), (50, 0.05), (50, 1.0), (100, 0.03)):
        weights = generator.uniform(0.3, 1, (count, count)) * (generator.random((count, count)) < share)
        ways = {
            "exact": lambda weights=weights: best_pairs(weights, 0.3),
            "greedy": lambda weights=weights: greedy(weights),
        }
        whole = {name: sum(weights[pair] for pair in way()) for name, way in ways.items()}
        assert whole["exact"] >= whole["greedy"] - 1e-9
        show(
            f"{count} × {count}, {share:.0%} may be pairs: greedy has {whole['greedy'] / whole['exact']:.3f}",
            raced(ways, 30),
        )


def greedy(weights: np.ndarray) -> list[tuple[int, int]]:
    """The heaviest pair first."""
    left, pairs = weights.copy(), []
    while left.max() >= 0.3:
        row, column = np.unravel_index(left.argmax(), left.shape)
        pairs.append((int(row), int(column)))
        left[row], left[:, column] = 0, 0
    return pairs
