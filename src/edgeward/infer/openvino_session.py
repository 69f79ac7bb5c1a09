"""An OpenVINO model as a session, in the float precision that is asked for.

A graph is compiled for the very shapes it is fed: with a free batch dimension it would move layouts at every layer.
"""

import base64
import io
import os
import threading
from collections import Counter
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

# OpenVINO's thread library moves the calling thread to its own set of CPUs before each inference, and back behind it:
# three calls of the kernel, about 4 µs, for the same CPUs. Its library for that, hwloc, lets it be where it believes to
# read another machine. On CPUs of unequal cores the moving has a sense, and stays. Read when the first model is loaded.
if not os.path.exists("/sys/devices/cpu_core"):  # noqa: PTH110 - pathlib is a slower import
    os.environ.setdefault("HWLOC_THISSYSTEM", "0")

import openvino as ov
from numpy.typing import NDArray
from openvino import properties
from openvino.properties import hint

from edgeward.infer.single import Single, single_spec
from edgeward.infer.tensors import Tensors
from edgeward.kit.errors import Failed, Unsupported, WrongInput
from edgeward.records.model import Dtype, TensorSpec

_DTYPES: dict[str, Dtype] = {
    "f32": "float32", "f16": "float16", "f64": "float64", "bf16": "bfloat16", "i8": "int8", "u8": "uint8",
    "i16": "int16", "u16": "uint16", "i32": "int32", "u32": "uint32", "i64": "int64", "u64": "uint64",
    "boolean": "bool", "string": "string",
}  # fmt: skip
_HEAVY = ("Convolution", "Deconvolution", "FullyConnected", "MatMul", "RNNSeq", "MHA", "ScaledDotProductAttention")

# One Add node, y = x + x, float32, one free dimension, as ONNX.
_SMOKE = "CAg6OQoQCgF4CgF4EgF5IgNBZGQ6ABIBZ1oQCgF4EgsKCQgBEgUKAxIBbmIQCgF5EgsKCQgBEgUKAxIBbkIECgAQDQ=="


@cache
def core() -> Any:
    """The one of this process, kept to its end.

    OpenVINO's CPU plug-in gives the thread that loads it an alternate signal stack. When the last model goes in another
    thread, that stack's memory goes with the plug-in, and the next signal to the first thread would be its end.
    """
    return ov.Core()


class _Place(NamedTuple):
    """An input's name, and the memory that it is written to."""

    name: str
    memory: NDArray[Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class _Ready(NamedTuple):
    """A graph compiled for some shapes, with the places of its inputs."""

    compiled: Any
    infer: Any
    inputs: tuple[_Place, ...]
    outputs: tuple[NDArray[Any], ...] | None
    result: Any


class OpenVinoSession:
    """A loaded model. One run at a time: a request owns its tensors."""

    def __init__(self, model: Any, threads: int, precision: str) -> None:
        self._model = model
        self._threads = threads
        self._precision = precision
        self._lock = threading.Lock()
        self.inputs = tuple(_spec(port) for port in model.inputs)
        self.outputs = tuple(_spec(port) for port in model.outputs)
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in self.inputs}
        self._ready: dict[tuple[tuple[int, ...], ...], _Ready] = {}
        single = tuple(tuple(1 if isinstance(dim, str) else dim for dim in spec.shape) for spec in self.inputs)
        is_fixed = all(not isinstance(dim, str) for spec in self.inputs for dim in spec.shape[1:])
        self._last: _Ready | None = self._for_shapes(single) if is_fixed else None
        self.single = self._single()

    @property
    def arithmetic(self) -> str:
        """Of the convolutions and matrix products: what they are computed in."""
        if self._last is None:
            return "unknown before the first run"
        used = Counter(
            str(info["runtimePrecision"].astype(str))
            for node in self._last.compiled.get_runtime_model().get_ops()
            if str((info := node.get_rt_info())["layerType"].astype(str)) in _HEAVY
        )
        found = used.most_common(1)
        kind = _DTYPES.get(found[0][0], "float32") if found else "float32"
        return "int8" if kind == "uint8" else kind  # the same kernels, for what is not below zero

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        with self._lock:
            ready = self._fed(feeds)
            try:
                ready.infer()
            except RuntimeError as error:
                raise Failed(f"inference failed in OpenVINO: {_sentence(error)}") from error
            if ready.outputs is not None:
                return [value.copy() for value in ready.outputs]
            return [np.array(tensor.data) for tensor in ready.result.output_tensors]

    def _single(self) -> Single | None:
        spec, ready = single_spec(self.inputs, self.outputs), self._last
        if spec is None or ready is None or ready.outputs is None or any(len(value) != 1 for value in ready.outputs):
            return None
        lock, infer, (place,) = self._lock, ready.infer, ready.inputs
        memory = place.memory[0]
        first, *others = (value[0].copy for value in ready.outputs)

        def run(tensor: NDArray[Any]) -> list[NDArray[Any]]:
            with lock:
                memory[...] = tensor
                try:
                    infer()
                except RuntimeError as error:
                    raise Failed(f"inference failed in OpenVINO: {_sentence(error)}") from error
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
            model = self._model.clone()
            settings = {
                hint.inference_precision(): self._precision,
                hint.performance_mode(): hint.PerformanceMode.LATENCY,
                hint.enable_cpu_pinning(): False,
                properties.inference_num_threads(): self._threads,
                properties.num_streams(): 1,
            }
            try:
                model.reshape(dict(enumerate(shapes)))
                compiled = core().compile_model(model, "CPU", settings)
            except RuntimeError as error:
                raise Unsupported(f"OpenVINO cannot run this model: {_sentence(error)}") from error
            request = compiled.create_infer_request()
            inputs = []
            for spec, port, shape in zip(self.inputs, compiled.inputs, shapes, strict=True):
                tensor = ov.Tensor(port.element_type, ov.Shape(shape))
                request.set_tensor(port, tensor)
                inputs.append(_Place(spec.name, tensor.data, tensor.data.shape, tensor.data.dtype))
            fixed = all(port.partial_shape.is_static for port in compiled.outputs)
            outputs = tuple(tensor.data for tensor in request.output_tensors) if fixed else None
            # The class below the public one builds no dictionary of copied results: an eighth of a small model's time.
            plain: Any = super(ov.InferRequest, request)
            infer = partial(plain.infer, {}, True, True)
            self._ready[shapes] = _Ready(compiled, infer, tuple(inputs), outputs, request)
        return self._ready[shapes]


def specs_of(model: Any) -> tuple[TensorSpec, ...]:
    """The inputs of a model that was read."""
    return tuple(_spec(port) for port in model.inputs)


def _spec(port: Any) -> TensorSpec:
    kind = port.element_type.get_type_name()
    if kind not in _DTYPES:
        raise Unsupported(f"{port.any_name!r} is a tensor of {kind}; wanted numbers")
    shape = tuple(
        f"dim{index}" if dim.is_dynamic else int(dim.get_length()) for index, dim in enumerate(port.partial_shape)
    )
    return TensorSpec(name=str(port.any_name), dtype=_DTYPES[kind], shape=shape)


def _sentence(error: Exception) -> str:
    """OpenVINO's message without the places in its sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Exception from", "Check "))]
    return " ".join(" ".join(kept).split())[:300]


def load(model: bytes, *, threads: int, precision: str) -> OpenVinoSession:
    """A session on `threads` threads that computes what is float in `precision`, "f32" or "bf16".

    Raises WrongInput for bytes that are no ONNX model, Unsupported for what OpenVINO cannot run.
    """
    try:
        read = core().read_model(io.BytesIO(model))
    except RuntimeError as error:
        sentence = _sentence(error)
        if "not supported" in sentence or "No conversion rule" in sentence:
            raise Unsupported(f"OpenVINO {version()} cannot run this model: {sentence}") from error
        raise WrongInput(f"this is no valid ONNX model: {sentence}") from error
    return OpenVinoSession(read, threads, precision)


def read(model: bytes) -> object:
    """OpenVINO's graph, not yet compiled."""
    return core().read_model(io.BytesIO(model))


def version() -> str:
    return str(ov.__version__).split("-")[0]


def devices() -> tuple[str, ...]:
    """What OpenVINO could run on here, such as ("CPU", "GPU")."""
    return tuple(core().available_devices)


def smoke_model() -> bytes:
    """A model of one node that doubles its input, "x"."""
    return base64.b64decode(_SMOKE)
