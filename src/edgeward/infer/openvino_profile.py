"""OpenVINO's own account of where the time went, node by node (PERF_COUNT), by its Python package: the C interface does
not tell which of the model's operators a node stands for."""

import io
from collections.abc import Sequence
from functools import cache
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np
import openvino as ov
from openvino import properties
from openvino.properties import hint

from edgeward.infer.account import Account, Kernel
from edgeward.infer.node_times import NodeTime
from edgeward.infer.openvino_library import Port
from edgeward.infer.openvino_session import precision_of, spec_of
from edgeward.infer.tensors import Tensors
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.records.model import Dtype

_DTYPES: dict[str, Dtype] = {
    "f32": "float32", "f16": "float16", "f64": "float64", "i8": "int8", "u8": "uint8", "i16": "int16", "u16": "uint16",
    "i32": "int32", "u32": "uint32", "i64": "int64", "u64": "uint64", "boolean": "bool",
}  # fmt: skip
_LAYOUT = frozenset({"Reorder", "Transpose"})
_HANDS_ON = "Identity"
"""Told as executed where it was interrupted, which is no layer."""
_MARKS = (9, 18, 36, 72, 150)
"""What it tells of a node is the mean of all runs since the model was compiled, the slow first ones among them. It is
read after so many, the part between two readings is a window, and behind the last the model is compiled anew."""
_LONG = 16
"""A window of so many runs tells fractions of the whole microseconds that are told."""
_NEAR = 1.15
"""Windows whose runs took up to so many times those of the fastest tell; into others fell other work on the machine."""
_HALF_TICK_MS = 0.0005
"""Its times are whole microseconds, rounded down."""


class _Window(NamedTuple):
    """Some runs: how many, what one took, and of it each node by its place."""

    runs: int
    took_ms: float
    nodes: dict[int, float]


class OpenVinoProfile:
    """A model compiled for the shapes it is fed first, that keeps an account of each node."""

    def __init__(self, model: Any, threads: int, precision: str) -> None:
        self._model = model
        self._settings = {
            hint.inference_precision(): precision,
            hint.performance_mode(): hint.PerformanceMode.LATENCY,
            hint.enable_cpu_pinning(): False,
            properties.inference_num_threads(): threads,
            properties.num_streams(): 1,
            properties.enable_profiling(): True,
        }
        self._request: Any = None
        self._infer: Any = None
        self._compiled: Any = None
        self.took_ms: list[float] = []
        self._count = 0
        self._read: tuple[int, dict[int, float]] = (0, {})
        self._windows: list[_Window] = []
        self._nodes: dict[int, Any] = {}
        self.inputs = tuple(spec_of(_port(port)) for port in model.inputs)

    def run(self, feeds: Tensors) -> None:
        if self._request is None:
            self._compile(feeds)
        begin = perf_counter_ns()
        self._infer({}, True, True)
        self.took_ms.append((perf_counter_ns() - begin) / 1e6)
        self._count += 1
        if self._count in _MARKS:
            self._end_window()
        if self._count == _MARKS[-1]:
            self._request = None

    def _compile(self, feeds: Tensors) -> None:
        """For the shapes of these; runs up to the first mark."""
        self._model.reshape({index: feeds[spec.name].shape for index, spec in enumerate(self.inputs)})
        try:
            self._compiled = _core().compile_model(self._model, "CPU", self._settings)
        except RuntimeError as error:
            raise Unsupported(f"OpenVINO cannot run this model: {str(error)[:200]}") from error
        self._request = self._compiled.create_infer_request()
        plain: Any = super(ov.InferRequest, self._request)  # as in OpenVinoSession: without copies of results
        self._infer = plain.infer
        self._request.infer([feeds[spec.name] for spec in self.inputs])
        for _ in range(_MARKS[0] - 1):
            self._infer({}, True, True)
        self._count, self._read = _MARKS[0], (_MARKS[0], self._told())

    def _told(self) -> dict[int, float]:
        """By place, the mean milliseconds of the nodes that ran."""
        found = {}
        for place, node in enumerate(self._request.get_profiling_info()):
            if "EXECUTED" in str(node.status) and node.node_type != _HANDS_ON:
                self._nodes[place] = node
                found[place] = float(node.real_time.total_seconds()) * 1000 + _HALF_TICK_MS
        return found

    def _end_window(self) -> None:
        before, told = self._read
        runs, now = self._count - before, self._told()
        nodes = {place: (self._count * ms - before * told.get(place, ms)) / runs for place, ms in now.items()}
        self._windows.append(_Window(runs, float(np.mean(self.took_ms[-runs:])), nodes))
        self._read = (self._count, now)

    def node_times(self) -> tuple[NodeTime, ...]:
        if self._request is not None and self._count > self._read[0]:
            self._end_window()
        long = [window for window in self._windows if window.runs >= _LONG] or self._windows
        fastest = min(window.took_ms for window in long)
        told = [window for window in long if window.took_ms <= _NEAR * fastest]
        # Where other work fell into every window, of each node the one that it fell into least.
        is_disturbed = fastest > _NEAR * float(np.median(self.took_ms))
        return tuple(
            self._node_time(node, _least(long, place) if is_disturbed else _mean(told, place))
            for place, node in self._nodes.items()
        )

    def account(self) -> Account:
        """Of the nodes that ran, with the names of the model's operators in each (`originalLayersNames`)."""
        joined = {
            str(node.get_friendly_name()): str(node.get_rt_info()["originalLayersNames"].astype(str))
            for node in self._compiled.get_runtime_model().get_ops()
        }
        return Account(tuple(_as_kernel(time, joined.get(time.name, "")) for time in self.node_times()))

    def _node_time(self, node: Any, time_ms: float) -> NodeTime:
        kind, least = str(node.node_type), _HALF_TICK_MS / 4
        kernel = f"CPU {_kernel(str(node.exec_type))}"
        return NodeTime(str(node.node_name), kind, kernel, max(time_ms, least), kind in _LAYOUT)


def _mean(windows: Sequence[_Window], place: int) -> float:
    return sum(window.runs * window.nodes.get(place, 0.0) for window in windows) / sum(w.runs for w in windows)


def _least(windows: Sequence[_Window], place: int) -> float:
    return max(0.0, min(window.nodes.get(place, 0.0) for window in windows))


def _as_kernel(time: NodeTime, joined: str) -> Kernel:
    precision, _, kernel = time.placement.removeprefix("CPU ").partition(", ")
    # A change of layout is called after the node that it is for, and stands for none.
    sources = (joined,) if joined else () if time.is_conversion else (time.name,)
    return Kernel(time, "CPU", precision, kernel, sources)


def _kernel(exec_type: str) -> str:
    """ "jit_avx512_I8" → "int8, jit_avx512": the precision in our words, then the kernel's own name."""
    kernel, _, kind = exec_type.rpartition("_")
    return f"{precision_of(exec_type) or kind}, {kernel}" if kernel else exec_type


@cache
def _core() -> Any:
    """Kept to the end of the process, as the C interface's."""
    return ov.Core()


def _port(port: Any) -> Port:
    dims = tuple(None if dim.is_dynamic else int(dim.get_length()) for dim in port.partial_shape)
    return Port(str(port.any_name), _DTYPES.get(port.element_type.get_type_name()), dims)


def profile(model: bytes, *, threads: int, precision: str) -> OpenVinoProfile:
    """A profile in the float precision "f32" or "bf16". Raises WrongInput for bytes that are no ONNX model."""
    try:
        read = _core().read_model(io.BytesIO(model))
    except RuntimeError as error:
        raise WrongInput(f"this is no valid ONNX model: {str(error)[:200]}") from error
    return OpenVinoProfile(read, threads, precision)
