"""ONNX Runtime's own account of where the time went, node by node."""

import tempfile
from typing import Any

import onnxruntime as ort

from edgeward.infer.node_times import NodeTime
from edgeward.infer.onnxruntime_session import CPU, OrtSession, opened, options_for
from edgeward.infer.onnxruntime_tare import Tare, by_node, tare, told_ms, with_profiling
from edgeward.infer.tensors import Tensors

_LAYOUT = frozenset({"ReorderInput", "ReorderOutput", "Transpose"})


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
            found = by_node(self._session)
        added = tare(self._session.get_session_options().intra_op_num_threads)
        return tuple(_node_time(name, events, added) for (_, name), events in found.items())


def profile(model: bytes, *, threads: int) -> OrtProfile:
    """A profile with the options of any other session. Raises what loading raises."""
    folder = tempfile.TemporaryDirectory(prefix="edgeward-profile-")
    return OrtProfile(opened(model, with_profiling(options_for(threads), folder.name), [CPU]), folder)


def _node_time(name: str, events: list[dict[str, Any]], added: Tare) -> NodeTime:
    told = events[0]["args"]
    kernel = str(told.get("op_name", ""))
    provider = str(told.get("provider", "")).removesuffix("ExecutionProvider")
    computed = _computed_in(kernel, told)
    time_ms = added.without(told_ms(events), len(told.get("input_type_shape", ())))
    return NodeTime(name, kernel, f"{provider} {computed}".strip(), time_ms, kernel in _LAYOUT)


def _computed_in(kernel: str, told: dict[str, Any]) -> str:
    """The type of its first input: what an integer kernel reads is eight bits wide."""
    types = [kind for item in told.get("input_type_shape", ()) for kind in item]
    if kernel == "DynamicQuantizeMatMul":
        return "int8"
    return {"float": "float32", "double": "float64", "uint8": "int8"}.get(types[0], types[0]) if types else ""
