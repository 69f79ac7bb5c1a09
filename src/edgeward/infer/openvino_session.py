"""An OpenVINO model as a session, in the float precision that is asked for.

A graph is compiled for the very shapes it is fed: with a free batch dimension it would move layouts at every layer.
"""

import base64
import threading
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import openvino_library as library
from edgeward.infer.openvino_library import Fault, Model, Port, Request
from edgeward.infer.single import Single, single_spec
from edgeward.infer.tensors import Tensors
from edgeward.kit.errors import Failed, Unsupported, WrongInput
from edgeward.records.model import TensorSpec

_HEAVY = frozenset(
    ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "Deconvolution",
     "FullyConnected", "MatMul", "RNNSequence", "LSTMSequence", "GRUSequence", "RNNSeq", "MHA",
     "ScaledDotProductAttention")
)  # fmt: skip
"""Operators as a model has them, and as OpenVINO calls what it made of several."""
_PRECISIONS = {
    "I8": "int8", "U8": "int8", "FP32": "float32", "F32": "float32", "BF16": "bfloat16", "FP16": "float16",
    "F16": "float16",
}  # fmt: skip

# One Add node, y = x + x, float32, one free dimension, as ONNX.
_SMOKE = "CAg6OQoQCgF4CgF4EgF5IgNBZGQ6ABIBZ1oQCgF4EgsKCQgBEgUKAxIBbmIQCgF5EgsKCQgBEgUKAxIBbkIECgAQDQ=="


class _Place(NamedTuple):
    """An input's name, and the memory that it is written to."""

    name: str
    memory: NDArray[Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class _Ready(NamedTuple):
    """A graph compiled for some shapes, with the places of its inputs."""

    request: Request
    inputs: tuple[_Place, ...]


class OpenVinoSession:
    """A loaded model. One run at a time: a request owns its tensors."""

    def __init__(self, model: Model, threads: int, precision: str) -> None:
        self._model = model
        self._settings = settings_of(threads, precision)
        self._lock = threading.Lock()
        self.inputs = tuple(spec_of(port) for port in model.inputs)
        self.outputs = tuple(spec_of(port) for port in model.outputs)
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in self.inputs}
        self._ready: dict[tuple[tuple[int, ...], ...], _Ready] = {}
        alone = _shapes_alone(self.inputs)
        self._last: _Ready | None = None if alone is None else self._for_shapes(alone)
        self.single = self._single()

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        with self._lock:
            ready = self._fed(feeds)
            if ready.request.infer():
                raise _failed()
            return ready.request.results()

    def _single(self) -> Single | None:
        spec, ready = single_spec(self.inputs, self.outputs), self._last
        if spec is None or ready is None or ready.request.outputs is None:
            return None
        if any(len(value) != 1 for value in ready.request.outputs):
            return None
        lock, infer, (place,) = self._lock, ready.request.infer, ready.inputs
        memory = place.memory[0]
        first, *others = (value[0].copy for value in ready.request.outputs)

        def run(tensor: NDArray[Any]) -> list[NDArray[Any]]:
            with lock:
                memory[...] = tensor
                if infer():
                    raise _failed()
                return [first(), *(copy() for copy in others)] if others else [first()]

        return Single(spec.name, place.dtype, memory.shape, run)

    def _fed(self, feeds: Tensors) -> _Ready:
        ready = self._last
        if ready is not None and len(feeds) == len(ready.inputs):
            for name, memory, shape, dtype in ready.inputs:
                value = feeds.get(name)
                if value is None or value.shape != shape or value.dtype != dtype:
                    break
                memory[...] = value
            else:
                return ready
        self._check(feeds)
        self._last = self._for_shapes(tuple(feeds[spec.name].shape for spec in self.inputs))
        for place in self._last.inputs:
            place.memory[...] = feeds[place.name]
        return self._last

    def _check(self, feeds: Tensors) -> None:
        for spec in self.inputs:
            value = feeds.get(spec.name)
            if value is None:
                raise WrongInput(f"input {spec.name!r} is missing")
            if value.dtype != self._dtypes[spec.name]:
                raise WrongInput(f"input {spec.name!r} is {spec.dtype}, got {value.dtype}")
            if len(value.shape) != len(spec.shape) or any(
                not isinstance(want, str) and want != got for want, got in zip(spec.shape, value.shape, strict=True)
            ):
                raise WrongInput(f"input {spec.name!r} has shape {list(spec.shape)}, got {list(value.shape)}")
        if len(feeds) > len(self.inputs):
            strange = next(iter(set(feeds) - {spec.name for spec in self.inputs}))
            raise WrongInput(f"the model has no input {strange!r}")

    def _for_shapes(self, shapes: tuple[tuple[int, ...], ...]) -> _Ready:
        if shapes not in self._ready:
            request = _compiled(self._model, shapes, self._settings)
            places = tuple(
                _Place(spec.name, memory, memory.shape, memory.dtype)
                for spec, memory in zip(self.inputs, request.inputs, strict=True)
            )
            self._ready[shapes] = _Ready(request, places)
        return self._ready[shapes]


def settings_of(threads: int, precision: str) -> dict[str, str]:
    """What a model is compiled with, by the names of OpenVINO's properties."""
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": "NO",
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": "1",
    }


def _compiled(model: Model, shapes: tuple[tuple[int, ...], ...], settings: dict[str, str]) -> Request:
    try:
        return model.compiled(shapes, settings)
    except Fault as error:
        raise Unsupported(f"OpenVINO cannot run this model: {error}") from error


def _failed() -> Failed:
    return Failed(f"inference failed in OpenVINO: {library.complaint()}")


def _shapes_alone(inputs: tuple[TensorSpec, ...]) -> tuple[tuple[int, ...], ...] | None:
    """Of one sample; None where more than the batch is free."""
    if any(isinstance(dim, str) for spec in inputs for dim in spec.shape[1:]):
        return None
    return tuple(tuple(1 if isinstance(dim, str) else dim for dim in spec.shape) for spec in inputs)


def spec_of(port: Port) -> TensorSpec:
    """Raises Unsupported for what is no tensor of numbers."""
    if port.dtype is None:
        raise Unsupported(
            f"{port.name!r} is no tensor of numbers that OpenVINO gives", hint="export the model without it"
        )
    shape = tuple(f"dim{index}" if dim is None else dim for index, dim in enumerate(port.dims))
    return TensorSpec(name=port.name, dtype=port.dtype, shape=shape)


def read(model: bytes) -> Model:
    """OpenVINO's graph, not yet compiled. Raises WrongInput for bytes that are no ONNX model, Unsupported for what
    OpenVINO cannot read."""
    try:
        return Model(model)
    except Fault as error:
        if "not supported" in str(error) or "No conversion rule" in str(error):
            raise Unsupported(f"OpenVINO {library.version()} cannot run this model: {error}") from error
        raise WrongInput(f"this is no valid ONNX model: {error}") from error


def load(model: bytes, *, threads: int, precision: str) -> OpenVinoSession:
    """A session on `threads` threads that computes what is float in `precision`, "f32" or "bf16". Raises what `read`
    raises, and Unsupported for what OpenVINO cannot compile."""
    return OpenVinoSession(read(model), threads, precision)


def arithmetic_of(model: bytes, *, precision: str) -> str:
    """What its convolutions and matrix products are computed in, by the names of the kernels that run them."""
    read_model = read(model)
    shapes = _shapes_alone(tuple(spec_of(port) for port in read_model.inputs))
    if shapes is None:
        return "unknown: its inputs have free dimensions"
    request = _compiled(read_model, shapes, settings_of(1, precision) | {"PERF_COUNT": "YES"})
    for memory in request.inputs:
        memory[...] = 0
    if request.infer():
        return "unknown: it does not run on zeros"
    used = Counter(precision_of(node.kernel) for node in request.nodes() if node.operator in _HEAVY)
    found = used.most_common(1)
    return (found[0][0] if found else None) or "float32"


def precision_of(kernel: str) -> str | None:
    """In our words, of a kernel's own name: "jit_avx512_I8" is int8. None for a name without one."""
    return _PRECISIONS.get(kernel.rpartition("_")[2].upper())


def smoke_model() -> bytes:
    """A model of one node that doubles its input."""
    return base64.b64decode(_SMOKE)
