"""What our server costs beside a bare ASGI function on the same uvicorn: same model, one client, requests interleaved.

`make bench`, or `python -m pytest bench/test_serve_overhead.py -s`. It prints a table and asserts nothing about time.
"""

import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
import uvicorn
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeward.measure.statistics import median_ratio_interval

WARM_UP = 300
ROUNDS = 1500
SHAPE = (3, 32, 32)


def small_network() -> bytes:
    """Three convolutions over a raw image of 32 × 32 pixels: about as much work as a small ResNet."""
    generator = np.random.default_rng(1)
    weights = {
        "w1": generator.normal(0, 0.1, (16, 3, 3, 3)),
        "w2": generator.normal(0, 0.1, (32, 16, 3, 3)),
        "w3": generator.normal(0, 0.1, (32, 32, 3, 3)),
        "w4": generator.normal(0, 0.1, (32, 10)),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "w3"], ["e"]),
        helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("ReduceMean", ["f"], ["g"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["g", "w4"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *SHAPE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


@contextmanager
def running(kind: str, model: Path) -> Iterator[tuple[int, int]]:
    """A server process: its port and its process id. It keeps to the last CPU, as the client does to the first:
    left to itself, the kernel wakes one server on the client's CPU and the other not, and that is all one measures."""
    command = [sys.executable, str(Path(__file__).with_name("serve_servers.py")), kind, str(model)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
    try:
        yield int(process.stdout.readline().rpartition(":")[2]), process.pid
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def client(port: int, request: bytes) -> Callable[[], bytes]:
    """Asks the same again and again on one connection, with as little work in the client as can be."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask() -> bytes:
        connection.sendall(request)
        reply = connection.recv(65536)
        while (end := reply.find(b"\r\n\r\n")) < 0:
            reply += connection.recv(65536)
        length = int(reply[: end + 2].lower().partition(b"\ncontent-length: ")[2].partition(b"\r")[0])
        while len(reply) < end + 4 + length:
            reply += connection.recv(65536)
        return reply[end + 4 :]

    return ask


def requests(image: NDArray[np.uint8]) -> dict[str, bytes]:
    """The same image as a bare body, and as the protocol's binary and JSON forms."""
    tensor = {"name": "image", "shape": [1, *SHAPE], "datatype": "UINT8"}
    binary = json.dumps(
        {"inputs": [{**tensor, "parameters": {"binary_data_size": image.nbytes}}],
         "parameters": {"binary_data_output": True}}
    ).encode()  # fmt: skip
    text = json.dumps({"inputs": [{**tensor, "data": image.ravel().tolist()}]}).encode()
    head = "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n{}\r\n"

    def post(path: str, body: bytes, more: str = "") -> bytes:
        return head.format(path, len(body), more).encode() + body

    path, length = "/v2/models/bench/infer", f"Inference-Header-Content-Length: {len(binary)}\r\n"
    return {
        "bare": post("/", image.tobytes()),
        "binary": post(path, binary + image.tobytes(), length),
        "json": post(path, text),
    }


def interleaved(askers: dict[str, Callable[[], bytes]]) -> dict[str, NDArray[np.float64]]:
    """Seconds of each request, by asker; in every round each asks once, and the first changes from round to round."""
    for _ in range(WARM_UP):
        for ask in askers.values():
            ask()
    names = list(askers)
    seconds = {name: np.zeros((ROUNDS, 1)) for name in names}
    for index in range(ROUNDS):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            began = perf_counter()
            askers[name]()
            seconds[name][index, 0] = perf_counter() - began
    return seconds


def resident_bytes(process: int) -> int:
    return int(Path(f"/proc/{process}/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


def test_the_cost_of_checks_metrics_and_limits(tmp_path: Path) -> None:
    model = tmp_path / "bench.onnx"
    model.write_bytes(small_network())
    image = np.random.default_rng(2).integers(0, 255, SHAPE, np.uint8)
    sent = requests(image)
    with running("bare", model) as (bare, bare_process), running("edgeward", model) as (ours, our_process):
        askers = {"bare": client(bare, sent["bare"])} | {name: client(ours, sent[name]) for name in ("binary", "json")}
        answers = {name: ask() for name, ask in askers.items()}
        assert answers["binary"].endswith(answers["bare"])
        found = json.loads(answers["json"])["outputs"][0]["data"]
        assert np.array_equal(np.array(found, np.float32), np.frombuffer(answers["bare"], np.float32))
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(everywhere)})
        seconds = interleaved(askers)
        os.sched_setaffinity(0, everywhere)
        memory = {"bare": resident_bytes(bare_process), "binary": resident_bytes(our_process)}
    show(seconds, memory)


def show(seconds: dict[str, NDArray[np.float64]], memory: dict[str, int]) -> None:
    load = os.getloadavg()[0]
    print(
        f"\none client, keep-alive, {ROUNDS} interleaved rounds after {WARM_UP}; {platform.machine()}, "
        f"{os.cpu_count()} CPUs, load {load:.2f}; Python {platform.python_version()}, uvicorn {uvicorn.__version__}, "
        f"ONNX Runtime {onnxruntime.__version__}, 1 thread"
    )
    print(
        f"{'server':<28}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'a second':>10}{'time of bare (95 %)':>24}{'RSS MB':>8}"
    )
    names = {"bare": "bare ASGI function", "binary": "edgeward, binary tensors", "json": "edgeward, JSON tensors"}
    for name, values in seconds.items():
        p50, p95, p99 = np.percentile(values * 1e3, [50, 95, 99])
        ratio, (low, high) = median_ratio_interval(values, seconds["bare"], seed=1)
        told = "1" if name == "bare" else f"{ratio:.3f} ({low:.3f}–{high:.3f})"
        size = f"{memory[name] / 1e6:.0f}" if name in memory else ""
        print(f"{names[name]:<28}{p50:>9.3f}{p95:>9.3f}{p99:>9.3f}{1 / values.mean():>10.0f}{told:>24}{size:>8}")
