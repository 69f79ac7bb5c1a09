"""What ONNX Runtime's profiler adds to the node that it times, measured here.

It describes a node's inputs and outputs before it stops the clock. Chains of nodes that compute next to nothing tell
how much that is: a long chain's run without the profiler, less a short one's, is what a node really takes.
"""

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnxruntime as ort

from edgeward.infer.node_times import undisturbed
from edgeward.infer.onnxruntime_session import CPU, opened, options_for

INPUTS = (1, 3, 9)
"""The tare is measured for nodes with so many inputs, and lies in between for others."""
_SHORT, _LONG = 8, 32
_TURNS, _UNTIMED_RUNS, _RUNS_IN_A_TURN = 20, 3, 8
_HALF_TICK_MS = 0.0005
"""Its times are whole microseconds, rounded down."""
_FLOAT = 1
_LENGTHS, _VARINT = 2, 0


class Tare(NamedTuple):
    """Milliseconds: `added` to a node with each number of INPUTS, and the `least` that a node takes at all."""

    added: tuple[float, ...]
    least: float

    def without(self, told_ms: float, inputs: int) -> float:
        """What a node took of which the profiler told so much."""
        return max(told_ms - float(np.interp(inputs, INPUTS, self.added)), self.least)


def with_profiling(options: ort.SessionOptions, folder: str) -> ort.SessionOptions:
    """The same options, with the profiler's file in `folder`."""
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(folder) / "profile")
    return options


def by_node(session: ort.InferenceSession) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Ends the profile: the kernel events of each node, by its place and name."""
    taken: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in msgspec.json.decode(Path(session.end_profiling()).read_bytes()):
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            key = (event["args"].get("node_index", ""), name.removesuffix("_kernel_time"))
            taken.setdefault(key, []).append(event)
    return taken


def told_ms(events: Sequence[dict[str, Any]]) -> float:
    """What the profiler tells of one node."""
    return undisturbed([event["dur"] for event in events]) / 1000 + _HALF_TICK_MS


@cache
def tare(threads: int) -> Tare:
    """Of a session with so many threads."""
    found = [_of_a_chain(inputs, threads) for inputs in INPUTS]
    return Tare(tuple(max(0.0, told - took) for told, took in found), max(0.0, min(took for _, took in found)))


def _of_a_chain(inputs: int, threads: int) -> tuple[float, float]:
    """Of a node with so many inputs: what the profiler tells, and what it takes without."""
    feeds = {"t0": np.ones((1, 1, 1, 1), np.float32)}
    with tempfile.TemporaryDirectory(prefix="edgeward-profile-") as folder:
        short, long = (_session(length, inputs, options_for(threads)) for length in (_SHORT, _LONG))
        profiled = _session(_LONG, inputs, with_profiling(options_for(threads), folder))
        taken = _in_turn((short, long, profiled), feeds)
        told = [told_ms(events) for events in by_node(profiled).values()]
    return float(np.median(told)), (undisturbed(taken[1]) - undisturbed(taken[0])) / (_LONG - _SHORT)


def _in_turn(sessions: Sequence[ort.InferenceSession], feeds: dict[str, Any]) -> list[list[float]]:
    """Milliseconds of the runs of each; the first ones of a turn bring its code back into the caches."""
    taken: list[list[float]] = [[] for _ in sessions]
    for _ in range(_TURNS):
        for session, times in zip(sessions, taken, strict=True):
            for _ in range(_UNTIMED_RUNS):
                session.run(None, feeds)
            for _ in range(_RUNS_IN_A_TURN):
                begin = perf_counter_ns()
                session.run(None, feeds)
                times.append((perf_counter_ns() - begin) / 1e6)
    return taken


def _session(length: int, inputs: int, options: ort.SessionOptions) -> ort.InferenceSession:
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return opened(chain(length, inputs), options, [CPU])


def chain(length: int, inputs: int) -> bytes:
    """An ONNX model, opset 13: so many Sum nodes of one element, each on the one before, with so many inputs.

    Written by hand, since a device that measures has no `onnx`; the numbers are the fields' of onnx.proto.
    """
    nodes = b"".join(
        _part(1, _part(1, b"t%d" % place) + _part(1, b"c") * (inputs - 1) + _part(2, b"t%d" % (place + 1))
              + _part(3, b"node %d" % place) + _part(4, b"Sum"))
        for place in range(length)
    )  # fmt: skip
    constant = _number(1, 1) * 4 + _number(2, _FLOAT) + _part(8, b"c") + _part(9, np.float32(1).tobytes())
    ends = _part(11, _scalar(b"t0")) + _part(12, _scalar(b"t%d" % length))
    graph = nodes + _part(2, b"chain") + _part(5, constant) + ends
    return _number(1, 8) + _part(7, graph) + _part(8, _number(2, 13))


def _scalar(name: bytes) -> bytes:
    """A value of shape 1x1x1x1."""
    shape = _part(1, _number(1, 1)) * 4
    return _part(1, name) + _part(2, _part(1, _number(1, _FLOAT) + _part(2, shape)))


def _part(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _LENGTHS) + _varint(len(value)) + value


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
