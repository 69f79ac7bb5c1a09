"""What the Unix socket costs beside the same inference in the client's own process: a 640 × 640 × 3 uint8 frame.

`python -m pytest bench/test_local_socket.py -s` prints tables; nothing here asserts a time.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import pytest
from onnx import parser

from edgeward.infer import Predictor, runtimes
from edgeward.link.local import LocalClient

SHAPE = (640, 640, 3)
WARM_UP = 100
LIGHT = """<ir_version: 8, opset_import: ["": 17]>
light (uint8[batch,640,640,3] frame) => (float[batch,3] y) {
  from = Constant <value = int64[2] {0, 0}> ()
  to = Constant <value = int64[2] {640, 640}> ()
  axes = Constant <value = int64[2] {1, 2}> ()
  step = Constant <value = int64[2] {16, 16}> ()
  some = Slice (frame, from, to, axes, step)
  x = Cast <to = 1> (some)
  y = ReduceMean <axes = [1, 2], keepdims = 0> (x)
}"""
WHOLE = """<ir_version: 8, opset_import: ["": 17]>
whole (uint8[batch,640,640,3] frame) => (float[batch,1600,3] y) {
  x = Cast <to = 1> (frame)
  planes = Transpose <perm = [0, 3, 1, 2]> (x)
  small = AveragePool <kernel_shape = [16, 16], strides = [16, 16]> (planes)
  rows = Transpose <perm = [0, 2, 3, 1]> (small)
  shape = Constant <value = int64[3] {-1, 1600, 3}> ()
  y = Reshape (rows, shape)
}"""


@contextmanager
def running(model: Path, path: Path) -> Iterator[None]:
    """The service on the last CPU; the client keeps to the first."""
    program = Path(__file__).with_name("serve_servers.py")
    command = [sys.executable, str(program), "edgeward", str(model), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    everywhere = os.sched_getaffinity(0)
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {max(everywhere)})
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, everywhere)
        process.terminate()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(("name", "text", "rounds"), [("a few µs", LIGHT, 2000), ("a few ms", WHOLE, 1000)])
def test_the_socket_beside_the_own_process(tmp_path: Path, name: str, text: str, rounds: int) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(parser.parse_model(text).SerializeToString())
    predictor = Predictor(runtimes.load("onnxruntime").load(model.read_bytes(), threads=1))
    frame = np.random.default_rng(1).integers(0, 255, SHAPE, np.uint8)
    with running(model, tmp_path / "s"), LocalClient(tmp_path / "s") as client:
        shared = client.array((1, *SHAPE), "uint8")
        shared[0] = frame
        ways: dict[str, Callable[[], object]] = {
            "in the own process": lambda: predictor.answer({"frame": frame}),
            "socket, frame in shared memory": lambda: client.infer("bench", {"frame": shared}),
            "socket, frame copied first": lambda: client.infer("bench", {"frame": frame[None]}),
        }
        own = predictor.answer({"frame": frame}).outputs["y"]
        assert np.array_equal(client.infer("bench", {"frame": shared}).outputs["y"][0], own)
        show(name, interleaved(ways, rounds))


def interleaved(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Microseconds of each way; in every round each has one turn, the first another from round to round."""
    names = list(ways)
    taken = {name: np.empty(rounds) for name in names}
    for index in range(-WARM_UP, rounds):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            began = perf_counter_ns()
            ways[name]()
            taken[name][max(index, 0)] = (perf_counter_ns() - began) / 1000
    return taken


def show(name: str, taken: dict[str, np.ndarray]) -> None:
    base, *others = taken
    print(
        f"\nmodel of {name}, n {len(taken[base])} each, interleaved; {platform.machine()}, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.2f}, Python {platform.python_version()}"
    )
    print(f"{'':<32}{'p50 µs':>9}{'p95 µs':>9}{'p99 µs':>9}{'over, p50 µs (IQR)':>26}")
    for way, values in taken.items():
        p50, p95, p99 = np.percentile(values, [50, 95, 99])
        over = np.percentile(values - taken[base], [25, 50, 75]) if way in others else None
        told = "" if over is None else f"{over[1]:.0f} ({over[0]:.0f}–{over[2]:.0f})"
        print(f"{way:<32}{p50:>9.0f}{p95:>9.0f}{p99:>9.0f}{told:>26}")
