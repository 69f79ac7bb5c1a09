"""OpenVINO by its C interface, as Edgeward drives it, beside its Python package: what an answer, and a start, costs.

`EDGEWARD_BENCH_MODELS=DIR python -m pytest bench/test_openvino_interface.py -s` prints tables for each .onnx there that
takes numbers and has a free batch; nothing here asserts a time.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter_ns

import numpy as np
import pytest

from edgeward.infer import openvino_session
from edgeward.measure.statistics import median_ratio_interval

MODELS = os.environ.get("EDGEWARD_BENCH_MODELS")
GENERATIONS, ROUNDS, RUNS = 5, 200, 5
START = """
import json, re, sys
from pathlib import Path
from time import perf_counter
import numpy as np
def resident_mb():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3
before, began = resident_mb(), perf_counter()
{body}
print(json.dumps([1e3 * (perf_counter() - began), resident_mb() - before]))
"""
BODIES = {
    "C interface": """
from edgeward.infer import openvino_session
session = openvino_session.load(Path(sys.argv[1]).read_bytes(), threads=1, precision="f32")
spec = session.inputs[0]
session.run({spec.name: np.zeros((1, *spec.shape[1:]), spec.dtype)})
""",
    "Python package": """
import openvino
core = openvino.Core()
model = core.read_model(sys.argv[1])
shape = [1, *[dim.get_length() for dim in list(model.input(0).partial_shape)[1:]]]
model.reshape(shape)
options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
request = core.compile_model(model, "CPU", options).create_infer_request()
request.infer([np.zeros(shape, model.input(0).element_type.to_dtype())])
""",
}


def files() -> list[Path]:
    if MODELS is None:
        pytest.skip("EDGEWARD_BENCH_MODELS says where the models are")
    return sorted(Path(MODELS).glob("*.onnx"))


def test_an_answer() -> None:
    print("\n| model | C interface p50 µs | Python package p50 µs | ratio [95 %] | n |\n|---|---|---|---|---|")
    for file in files():
        done = [
            subprocess.run([sys.executable, __file__, file, str(seed)], capture_output=True, text=True, check=True)
            for seed in range(GENERATIONS)
        ]
        ours, theirs = (np.concatenate([json.loads(one.stdout)[index] for one in done]) for index in (0, 1))
        ratio, (low, high) = median_ratio_interval(ours, theirs, seed=0)
        print(
            f"| {file.stem} | {np.median(ours):.1f} | {np.median(theirs):.1f} | {ratio:.3f} [{low:.3f}, {high:.3f}] "
            f"| {len(ours)} turns of {RUNS}, {GENERATIONS} processes |"
        )


def test_a_start() -> None:
    print("\n| model | | to the first answer, ms | more memory then, MB | n |\n|---|---|---|---|---|")
    for file in files():
        found: dict[str, list[list[float]]] = {name: [] for name in BODIES}
        for _ in range(11):
            for name, body in BODIES.items():
                command = [sys.executable, "-c", START.format(body=body), str(file)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[name].append(json.loads(done.stdout))
        for name, rows in found.items():
            times, sizes = zip(*rows, strict=True)
            print(
                f"| {file.stem} | {name} | {median(times):.0f} ({min(times):.0f}–{max(times):.0f}) "
                f"| {median(sizes):.1f} ({min(sizes):.1f}–{max(sizes):.1f}) | {len(rows)} |"
            )


def time_both(file: Path, seed: int) -> None:
    """Prints the microseconds of the runs of both in turn, on one CPU."""
    import openvino

    data = file.read_bytes()
    session = openvino_session.load(data, threads=1, precision="f32")
    spec = session.inputs[0]
    sample = np.random.default_rng(0).integers(0, 256, [1, *map(int, spec.shape[1:])]).astype(spec.dtype)
    core = openvino.Core()
    model = core.read_model(str(file))
    model.reshape(list(sample.shape))
    request = core.compile_model(model, "CPU", openvino_session.settings_of(1, "f32")).create_infer_request()
    ways: list[Callable[[], object]] = [lambda: session.run({spec.name: sample}), lambda: request.infer([sample])]
    os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[seed % len(os.sched_getaffinity(0))]])
    generator = np.random.default_rng(seed)
    gc.disable()
    taken = np.empty((2, ROUNDS, RUNS))
    for index in range(-10, ROUNDS):
        for way in generator.permutation(2):
            times = []
            for _ in range(3 + RUNS):
                began = perf_counter_ns()
                ways[way]()
                times.append((perf_counter_ns() - began) / 1000)
            taken[way, max(index, 0)] = times[3:]
    print(json.dumps(taken.tolist()))


if __name__ == "__main__":
    time_both(Path(sys.argv[1]), int(sys.argv[2]))
