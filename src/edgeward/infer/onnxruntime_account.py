"""ONNX Runtime's account of a whole model: its profiler, the graph that it made, and the back-end of each operator."""

import tempfile
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import onnxruntime as ort

from edgeward.infer.account import Account, Assigned, Kernel
from edgeward.infer.node_times import NodeTime
from edgeward.infer.onnxruntime_profile import OrtProfile
from edgeward.infer.onnxruntime_session import CPU, opened, options_for
from edgeward.infer.onnxruntime_tare import with_profiling
from edgeward.infer.tensors import Tensors

_GRAPH = "graph.onnx"
_LARGEST_GRAPH_BYTES = 1 << 30


class OrtAccount:
    """A session that keeps an account, in `folder`."""

    def __init__(self, session: ort.InferenceSession, folder: tempfile.TemporaryDirectory[str]) -> None:
        self._session = session
        self._folder = folder
        self._profile = OrtProfile(session, folder)
        self.inputs = self._profile.inputs
        self.took_ms: list[float] = []

    def run(self, feeds: Tensors) -> None:
        begin = perf_counter_ns()
        self._profile.run(feeds)
        self.took_ms.append((perf_counter_ns() - begin) / 1e6)

    def account(self) -> Account:
        assigned = _assigned(self._session)
        file = Path(self._folder.name) / _GRAPH
        graph = file.read_bytes() if file.is_file() and file.stat().st_size < _LARGEST_GRAPH_BYTES else b""
        return Account(tuple(map(_kernel, self._profile.node_times())), assigned, graph)


def account(
    model: bytes, *, threads: int, options: ort.SessionOptions | None = None, providers: list[Any] | None = None
) -> OrtAccount:
    """Of a session as `options` and `providers` have it, by default on the CPU. Raises what loading raises."""
    folder = tempfile.TemporaryDirectory(prefix="edgeward-profile-")
    chosen = with_profiling(options or options_for(threads), folder.name)
    chosen.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if options is None:  # a graph with parts that a provider compiled cannot be written down
        chosen.optimized_model_filepath = str(Path(folder.name) / _GRAPH)
    return OrtAccount(opened(model, chosen, [CPU] if options is None else providers), folder)


def _kernel(time: NodeTime) -> Kernel:
    device, _, precision = time.placement.partition(" ")
    return Kernel(time, device, precision, "", (time.name,))


def _assigned(session: Any) -> tuple[Assigned, ...]:
    """None from an ONNX Runtime that does not tell (before 1.24)."""
    told = getattr(session, "get_provider_graph_assignment_info", None)
    if told is None:
        return ()
    return tuple(
        Assigned(str(node.name), str(node.op_type), str(part.ep_name).removesuffix("ExecutionProvider"), place)
        for place, part in enumerate(told())
        for node in part.get_nodes()
    )
