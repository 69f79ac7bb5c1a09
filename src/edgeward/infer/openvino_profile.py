"""OpenVINO's own account of where the time went, node by node (PERF_COUNT)."""

import io
from functools import cache
from time import perf_counter_ns
from typing import Any

import openvino as ov
from openvino import properties
from openvino.properties import hint

from edgeward.infer.account import Account, Kernel
from edgeward.infer.node_times import NodeTime, undisturbed
from edgeward.infer.openvino_session import specs_of
from edgeward.infer.tensors import Tensors
from edgeward.kit.errors import Unsupported, WrongInput

_LAYOUT = frozenset({"Reorder", "Transpose"})
_RUNS = 4
"""Only the last of so many runs is read: reading takes long enough for the caches to grow cold."""
_SHARE = 0.15
"""Each run goes by way of a thread of its own, which other work on the machine holds up and finds with cold caches."""
_HALF_TICK_MS = 0.0005
"""Its times are whole microseconds, rounded down."""


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
        self._taken: dict[int, list[float]] = {}
        self._told: dict[int, Any] = {}
        self.inputs = specs_of(model)

    def run(self, feeds: Tensors) -> None:
        if self._request is None:
            self._model.reshape({index: feeds[spec.name].shape for index, spec in enumerate(self.inputs)})
            try:
                compiled = _core().compile_model(self._model, "CPU", self._settings)
            except RuntimeError as error:
                raise Unsupported(f"OpenVINO cannot run this model: {str(error)[:200]}") from error
            self._compiled, self._request = compiled, compiled.create_infer_request()
            plain: Any = super(ov.InferRequest, self._request)  # as in OpenVinoSession: without copies of results
            self._infer = plain.infer
            self._request.infer([feeds[spec.name] for spec in self.inputs])
        for _ in range(_RUNS):
            begin = perf_counter_ns()
            self._infer({}, True, True)
        self.took_ms.append((perf_counter_ns() - begin) / 1e6)
        for place, node in enumerate(self._request.get_profiling_info()):
            if "EXECUTED" in str(node.status):
                self._taken.setdefault(place, []).append(node.real_time.total_seconds() * 1000)
                self._told[place] = node

    def node_times(self) -> tuple[NodeTime, ...]:
        return tuple(self._node_time(node, self._taken[place]) for place, node in self._told.items())

    def account(self) -> Account:
        """Of the nodes that ran, with the names of the model's operators in each (`originalLayersNames`)."""
        joined = {
            str(node.get_friendly_name()): str(node.get_rt_info()["originalLayersNames"].astype(str))
            for node in self._compiled.get_runtime_model().get_ops()
        }
        return Account(tuple(_as_kernel(time, joined.get(time.name, "")) for time in self.node_times()))

    def _node_time(self, node: Any, taken: list[float]) -> NodeTime:
        kind = str(node.node_type)
        time_ms = undisturbed(taken, _SHARE) + _HALF_TICK_MS
        return NodeTime(str(node.node_name), kind, f"CPU {_kernel(str(node.exec_type))}", time_ms, kind in _LAYOUT)


def _as_kernel(time: NodeTime, joined: str) -> Kernel:
    precision, _, kernel = time.placement.removeprefix("CPU ").partition(", ")
    # A change of layout is called after the node that it is for, and stands for none.
    sources = (joined,) if joined else () if time.is_conversion else (time.name,)
    return Kernel(time, "CPU", precision, kernel, sources)


@cache
def _core() -> Any:
    """One for the process: each loads OpenVINO's plug-ins anew."""
    return ov.Core()


def _kernel(exec_type: str) -> str:
    """ "jit_avx512_I8" → "int8, jit_avx512": the precision in our words, then the kernel's own name."""
    kernel, _, kind = exec_type.rpartition("_")
    kinds = {"I8": "int8", "U8": "int8", "FP32": "float32", "F32": "float32", "BF16": "bfloat16", "FP16": "float16"}
    return f"{kinds.get(kind.upper(), kind)}, {kernel}" if kernel else exec_type


def profile(model: bytes, *, threads: int, precision: str) -> OpenVinoProfile:
    """A profile in the float precision "f32" or "bf16". Raises WrongInput for bytes that are no ONNX model."""
    try:
        read = _core().read_model(io.BytesIO(model))
    except RuntimeError as error:
        raise WrongInput(f"this is no valid ONNX model: {str(error)[:200]}") from error
    return OpenVinoProfile(read, threads, precision)
