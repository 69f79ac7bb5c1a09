"""ONNX Runtime's own account of where the time went, node by node."""

import base64
import json
import tempfile
from functools import cache
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import onnxruntime as ort

from edgeward.infer.node_times import NodeTime, undisturbed
from edgeward.infer.onnxruntime_session import CPU, OrtSession, opened, options_for
from edgeward.infer.tensors import Tensors

# Four Sum nodes of one element, each on the one before, with 1, 1, 3 and 9 inputs; opset 13.
_TARE_MODEL = (
    "CAg6ngEKEAoBeBICczAaAnMwIgNTdW0KEQoCczASAnMxGgJzMSIDU3VtChcKAnMxCgFjCgFjEgJzMhoCczIiA1N1bQopCgJzMgoBYwoBYwoBYw"
    "oBYwoBYwoBYwoBYwoBYxICczMaAnMzIgNTdW0SAWcqDQgBEAEiBAAAgD9CAWNaDwoBeBIKCggIARIECgIIAWIQCgJzMxIKCggIARIECgIIAUIE"
    "CgAQDQ=="
)
_TARE_INPUTS = (1, 3, 9)
_TARE_NODES = 4
_TARE_RUNS = 60

_LAYOUT = frozenset({"ReorderInput", "ReorderOutput", "Transpose"})
_HALF_TICK_MS = 0.0005
"""Its times are whole microseconds, rounded down."""


class OrtProfile:
    """A session that keeps an account of each node, in `folder`; it works at no other."""

    def __init__(self, session: ort.InferenceSession, folder: tempfile.TemporaryDirectory[str]) -> None:
        self._session = session
        self._folder = folder
        self.inputs = OrtSession(session).inputs

    def run(self, feeds: Tensors) -> None:
        self._session.run(None, feeds)

    def node_times(self) -> tuple[NodeTime, ...]:
        with self._folder:
            events = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
        return tuple(_node_time(name, found) for (_, name), found in _by_node(events).items())


def profile(model: bytes, *, threads: int) -> OrtProfile:
    """A profile with the options of any other session. Raises what loading raises."""
    folder = tempfile.TemporaryDirectory(prefix="edgeward-profile-")
    return OrtProfile(opened(model, with_profiling(options_for(threads), folder.name), [CPU]), folder)


def with_profiling(options: ort.SessionOptions, folder: str) -> ort.SessionOptions:
    """The same options, with the profiler's file in `folder`."""
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(folder) / "profile")
    return options


def _by_node(events: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    taken: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            key = (event["args"].get("node_index", ""), name.removesuffix("_kernel_time"))
            taken.setdefault(key, []).append(event)
    return taken


def _told_ms(events: list[dict[str, Any]]) -> float:
    return undisturbed([event["dur"] for event in events]) / 1000 + _HALF_TICK_MS


@cache
def _tares_ms() -> tuple[float, ...]:
    """What the profiler adds to a node with 1, 3 and 9 inputs: it describes each of them while the clock runs."""
    with tempfile.TemporaryDirectory(prefix="edgeward-profile-") as folder:
        session = _tare_session(with_profiling(options_for(1), folder))
        _median_run_ms(session)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    _, *told = (_told_ms(found) for found in _by_node(events).values())
    return tuple(max(0.0, value - _node_ms()) for value in told)


@cache
def _node_ms() -> float:
    """What a node costs that does next to nothing, without the profiler; half of so short a run is the call."""
    return _median_run_ms(_tare_session(options_for(1))) / _TARE_NODES / 2


def _tare_session(options: ort.SessionOptions) -> ort.InferenceSession:
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return opened(base64.b64decode(_TARE_MODEL), options, [CPU])


def _median_run_ms(session: ort.InferenceSession) -> float:
    feeds, taken = {"x": np.ones(1, np.float32)}, list[float]()
    for _ in range(_TARE_RUNS):
        begin = perf_counter_ns()
        session.run(None, feeds)
        taken.append((perf_counter_ns() - begin) / 1e6)
    return undisturbed(taken)


def _node_time(name: str, events: list[dict[str, Any]]) -> NodeTime:
    told = events[0]["args"]
    kernel = str(told.get("op_name", ""))
    provider = str(told.get("provider", "")).removesuffix("ExecutionProvider")
    computed = _computed_in(kernel, told)
    tare_ms = float(np.interp(len(told.get("input_type_shape", ())), _TARE_INPUTS, _tares_ms()))
    time_ms = max(_told_ms(events) - tare_ms, _node_ms())
    return NodeTime(name, kernel, f"{provider} {computed}".strip(), time_ms, kernel in _LAYOUT)


def _computed_in(kernel: str, told: dict[str, Any]) -> str:
    """The type of its first input: what an integer kernel reads is eight bits wide."""
    types = [kind for item in told.get("input_type_shape", ()) for kind in item]
    if kernel == "DynamicQuantizeMatMul":
        return "int8"
    return {"float": "float32", "double": "float64", "uint8": "int8"}.get(types[0], types[0]) if types else ""
