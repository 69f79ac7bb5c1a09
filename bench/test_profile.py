"""Do the layers of a profile make up the whole run, and does it agree with the runtimes' own tools?

`python -m pytest bench/test_profile.py -s` prints both tables; nothing here asserts a time. Every tool is run in turn,
`ROUNDS` times, on one thread.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeward.infer import openvino_session, runtimes
from edgeward.infer.node_times import undisturbed
from edgeward.kit.clock import SystemClock
from edgeward.measure.place import HERE
from edgeward.measure.profiling.accounts import Told, told_of
from edgeward.measure.profiling.onnx_graph import with_numbers
from edgeward.measure.profiling.profile import Given, profile
from edgeward.optimize import exporters

ROUNDS = 2
CLOCK_ROUNDS = 8
SECONDS = 1.2
BESIDE = Path(__file__).resolve().parents[2] / "shared/data/mlperf-tiny"
MODELS = Path(os.environ.get("EDGEWARD_BENCH_MODELS", BESIDE))
"""Where resnet8-float.onnx, resnet8-float.tflite, resnet8-int8-reference.tflite and mobilenet.onnx are looked for."""
BIN = Path(sys.executable).parent


class Case(NamedTuple):
    """A model of a name in a runtime."""

    model: str
    runtime: str
    data: bytes


def cases() -> list[Case]:
    """resnet8 in float and int8, and a MobileNet where one was trained (examples/small_images)."""
    found = []
    resnet, mobilenet = MODELS / "resnet8-float.onnx", MODELS / "mobilenet.onnx"
    for name, file in (("resnet8", resnet), ("MobileNet", mobilenet)):
        if file.is_file():
            found += [Case(name, runtime, file.read_bytes()) for runtime in ("onnxruntime", "openvino")]
            lite = MODELS / f"{name}-float.tflite"
            exported = exporters.load("litert").export
            found.append(
                Case(name, "litert", lite.read_bytes() if lite.is_file() else exported(onnx.load(file)).data)
            )  # fmt: skip
    whole = MODELS / "resnet8-int8-reference.tflite"
    if whole.is_file():
        found.append(Case("resnet8 int8", "litert", whole.read_bytes()))
    return found


def feeds(case: Case) -> dict[str, np.ndarray]:
    session = runtimes.load(case.runtime).load(case.data, threads=1)
    generator = np.random.default_rng(0)
    shapes = {spec.name: [dim if isinstance(dim, int) else 1 for dim in spec.shape] for spec in session.inputs}
    kinds = {spec.name: spec.dtype for spec in session.inputs}
    return {name: (10 * generator.normal(size=shape)).astype(kinds[name]) for name, shape in shapes.items()}


def plainly(case: Case) -> Told:
    """A model in turn as it is and under its runtime's profiler, its operators called after their places."""
    is_onnx = case.runtime != "litert"
    numbered = with_numbers(onnx.load_model_from_string(case.data)) if is_onnx else case.data
    return told_of(case.runtime, case.data, numbered, [feeds(case)], threads=1, seconds=SECONDS, place=HERE)


def ratios(these: list[float], those: list[float]) -> str:
    """The median, and the least and the greatest."""
    found = [one / other for one, other in zip(these, those, strict=True)]
    return f"{median(found):.3f} ({min(found):.3f}–{max(found):.3f})"


def test_the_layers_make_up_the_whole() -> None:
    chosen = cases()
    if not chosen:
        pytest.skip(f"there is no resnet8 in {MODELS}")
    found: dict[Case, list[Told]] = {case: [] for case in chosen}
    for _ in range(ROUNDS):
        for case in chosen:
            found[case].append(plainly(case))
    print("\n| model, runtime | n | whole run µs | layers ÷ whole | under the profiler ÷ whole | kernels |")
    print("|---|---|---|---|---|---|")
    for case, told in found.items():
        whole = [undisturbed(one.plain_ms) for one in told]
        layers = [sum(kernel.time.time_ms for kernel in one.account.kernels) for one in told]
        slower = [undisturbed(one.profiled_ms) for one in told]
        print(
            f"| {case.model}, {case.runtime} | {sum(len(one.plain_ms) for one in told):,} "
            f"| {1000 * median(whole):.0f} | {ratios(layers, whole)} | {ratios(slower, whole)} "
            f"| {len(told[0].account.kernels)} |"
        )


def test_share_of_the_limit_and_placement() -> None:
    chosen = cases()
    if not chosen:
        pytest.skip(f"there is no resnet8 in {MODELS}")
    print("\n| model, runtime | share of the limit | operators: ran, fused, folded, removed | the largest losses |")
    print("|---|---|---|---|")
    for case in chosen:
        given = Given(case.model, case.data, case.runtime, 1, [feeds(case)])
        told = profile(given, seconds=SECONDS, clock=SystemClock())
        fates = [sum(node.fate == fate for node in told.nodes) for fate in ("ran", "fused", "folded", "removed")]
        losses = "; ".join(f"{loss.title} {100 * loss.share:.0f} %" for loss in told.losses[:3])
        print(
            f"| {case.model}, {case.runtime} | {100 * told.share_of_limit:.0f} % "
            f"| {sum(fates)}: {', '.join(map(str, fates))} | {losses} |"
        )


def test_beside_the_runtimes_own_tools() -> None:
    chosen = [case for case in cases() if case.model in ("resnet8", "MobileNet")]
    if not chosen:
        pytest.skip(f"there is no resnet8 in {MODELS}")
    print("\n| model, runtime | `edgeward profile` p50 µs | the other tool | its p50 µs | ratio |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for case in chosen:
            file = Path(folder) / ("model.tflite" if case.runtime == "litert" else "model.onnx")
            file.write_bytes(case.data)
            tool, run = PEERS[case.runtime]
            ours, theirs = [], []
            for _ in range(ROUNDS):
                ours.append(1000 * median(plainly(case).plain_ms))
                theirs.append(run(file, case))
            print(
                f"| {case.model}, {case.runtime} | {median(ours):.0f} | {tool} | {median(theirs):.0f} "
                f"| {ratios(ours, theirs)} |"
            )


def test_openvino_by_one_clock() -> None:
    """`benchmark_app` tells the request's own latency, taken in the library; a caller waits for more. Each is measured
    in a process of its own, in a drawn order."""
    chosen = [case for case in cases() if case.runtime == "openvino"]
    if not chosen:
        pytest.skip(f"there is no resnet8 in {MODELS}")
    order = random.Random(0)
    print("\n| model | | p50 µs | ÷ `benchmark_app` |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for case in chosen:
            file = Path(folder) / "model.onnx"
            file.write_bytes(case.data)
            found: dict[str, list[float]] = {name: [] for name in CLOCKS}
            for _ in range(CLOCK_ROUNDS):
                for name in order.sample(list(CLOCKS), len(CLOCKS)):
                    found[name].append(CLOCKS[name](file, case))
            for name, values in found.items():
                print(
                    f"| {case.model} | {name} | {median(values):.0f} ({min(values):.0f}–{max(values):.0f}) "
                    f"| {ratio_of_medians(values, found['`benchmark_app`'])} |"
                )


def ratio_of_medians(these: list[float], those: list[float]) -> str:
    """The ratio of the medians, and what 95 of 100 resamplings of the rounds give."""
    generator = np.random.default_rng(0)
    drawn = generator.integers(len(these), size=(2000, len(these)))
    spread = np.median(np.array(these)[drawn], axis=1) / np.median(np.array(those)[drawn], axis=1)
    low, high = np.quantile(spread, (0.025, 0.975))
    return f"{median(these) / median(those):.3f} [{low:.3f}, {high:.3f}]"


def as_a_caller_waits(file: Path, _: Case) -> float:
    told = subprocess.run([sys.executable, __file__, file], capture_output=True, text=True, check=True).stdout
    return float(told)


def time_our_session(file: Path) -> None:
    """Prints the median microseconds of two seconds of runs, as the caller waits for them."""
    case = Case("", "openvino", file.read_bytes())
    given, session = feeds(case), openvino_session.load(case.data, threads=1, precision="f32")
    session.run(given)
    waited = []
    begin = perf_counter_ns()
    while (now := perf_counter_ns()) - begin < 2e9:
        session.run(given)
        waited.append((perf_counter_ns() - now) / 1000)
    print(median(waited))


def benchmark_app(file: Path, case: Case) -> float:
    """OpenVINO's own tool, synchronous, float32, on one thread: its median in microseconds."""
    shapes = ",".join(f"{name}{list(value.shape)}".replace(" ", "") for name, value in feeds(case).items())
    command = [BIN / "benchmark_app", "-m", file, "-api", "sync", "-nthreads", "1", "-nstreams", "1", "-pin", "NO"]
    command += ["-infer_precision", "CPU:f32", "-hint", "none", "-t", "2", "-shape", shapes]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Median:\s+([\d.]+) (ms|us)", told)
    assert found, told[-800:]
    return float(found[1]) * (1000 if found[2] == "ms" else 1)


def litert_benchmark(file: Path, _: Case) -> float:
    """LiteRT's own tool, on one thread: its median in microseconds."""
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        command = [BIN / "litert-benchmark", "--model", file, "--num_threads", "1", "--num_runs", "3000"]
        command += ["--warmup_runs", "200", "--result_json", result.name]
        subprocess.run(command, capture_output=True, text=True, check=True)
        told = json.loads(Path(result.name).read_text())
    return 1000 * float(next(value for name, value in flat(told).items() if "median" in name or "p50" in name))


def flat(told: object, name: str = "") -> dict[str, object]:
    if not isinstance(told, dict):
        return {name: told}
    return {key: value for part, inner in told.items() for key, value in flat(inner, f"{name}.{part}").items()}


def ort_profiler(file: Path, case: Case) -> float:
    """ONNX Runtime with its profiler on: the median of its event for a whole run, in microseconds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        given = feeds(case)
        begin = perf_counter_ns()
        while perf_counter_ns() - begin < 2e9:
            session.run(None, given)
        events = json.loads(Path(session.end_profiling()).read_text())
    return float(median(event["dur"] for event in events if event["name"] == "model_run"))


CLOCKS = {
    "as a caller of our session waits": as_a_caller_waits,
    "`benchmark_app`": benchmark_app,
}
PEERS = {
    "onnxruntime": ("its own profiler (`enable_profiling`)", ort_profiler),
    "openvino": ("`benchmark_app -api sync`", benchmark_app),
    "litert": ("`litert-benchmark`", litert_benchmark),
}


if __name__ == "__main__":
    time_our_session(Path(sys.argv[1]))
