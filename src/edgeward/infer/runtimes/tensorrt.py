"""TensorRT on an NVIDIA GPU, by its own Python API (10 and newer).

It takes ONNX, and builds the engine here when it first loads a model: minutes, so the engine is kept. Precision is the
model's own: float32 stays float32 (TF32 is off), half precision where the model is, int8 where it has quantise nodes
with zero points of 0. An engine that was built elsewhere loads where it fits.
"""

import base64
import hashlib
import threading
from typing import Any, NamedTuple

import numpy as np
import tensorrt as trt
from cuda.bindings import runtime as cuda
from numpy.typing import NDArray

from edgeward.infer import engine_cache
from edgeward.infer.runtimes.base import Runtime, Session, Tensors
from edgeward.infer.tensorrt_words import engine_fault, parser_fault
from edgeward.kit import files
from edgeward.kit.errors import Failed, Unsupported, WrongInput
from edgeward.records.model import Dtype, TensorSpec

_ENGINE_MAGIC = (b"ftrt", b"ptrt")
_LARGEST_BATCH = 16
"""What a free first dimension may grow to; engines are tuned for 1."""

_DTYPES: dict[str, Dtype] = {
    "float32": "float32", "float16": "float16", "int8": "int8", "uint8": "uint8", "int32": "int32", "int64": "int64",
    "bool": "bool",
}  # fmt: skip

# One Add node, y = x + x, opset 13, one free dimension, as ONNX.
_SMOKE = "CAg6OQoQCgF4CgF4EgF5IgNBZGQ6ABIBZ1oQCgF4EgsKCQgBEgUKAxIBbmIQCgF5EgsKCQgBEgUKAxIBbkIECgAQDQ=="


class _Log(trt.ILogger):  # type: ignore[misc]  # tensorrt is untyped here
    """Keeps what TensorRT says went wrong; it raises nothing."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(message)


class _Place(NamedTuple):
    """A tensor of the engine, with its memory on the device for the largest shape."""

    spec: TensorSpec
    dtype: np.dtype[Any]
    limits: tuple[int, ...]
    address: int


class TensorRtSession:
    """A loaded engine. One run at a time: its context owns the device's memory."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._context = engine.create_execution_context()
        self._lock = threading.Lock()
        self._stream = _cuda(cuda.cudaStreamCreate())
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        is_input = {name: engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self._inputs = [self._input(name) for name in names if is_input[name]]
        for place in self._inputs:
            self._context.set_input_shape(place.spec.name, place.limits)
        self._outputs = [self._output(name) for name in names if not is_input[name]]
        self.inputs = tuple(place.spec for place in self._inputs)
        self.outputs = tuple(place.spec for place in self._outputs)
        for place in (*self._inputs, *self._outputs):
            self._context.set_tensor_address(place.spec.name, place.address)

    def __del__(self) -> None:
        for place in (*getattr(self, "_inputs", ()), *getattr(self, "_outputs", ())):
            cuda.cudaFree(place.address)

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        self._check(feeds)
        with self._lock:
            given = [np.ascontiguousarray(feeds[place.spec.name]) for place in self._inputs]
            for place, value in zip(self._inputs, given, strict=True):
                self._context.set_input_shape(place.spec.name, value.shape)
                self._copy(place.address, value.ctypes.data, value.nbytes, to_device=True)
            if not self._context.execute_async_v3(int(self._stream)):
                raise Failed("inference failed in TensorRT")
            values = [
                np.empty(tuple(self._context.get_tensor_shape(place.spec.name)), place.dtype) for place in self._outputs
            ]
            for place, value in zip(self._outputs, values, strict=True):
                self._copy(value.ctypes.data, place.address, value.nbytes, to_device=False)
            _cuda(cuda.cudaStreamSynchronize(self._stream))
            return values

    def _copy(self, to: int, source: int, count: int, *, to_device: bool) -> None:
        kind = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice if to_device else cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        _cuda(cuda.cudaMemcpyAsync(to, source, count, kind, self._stream))

    def _input(self, name: str) -> _Place:
        largest = self._engine.get_tensor_profile_shape(name, 0)[2]
        return self._place(name, tuple(self._engine.get_tensor_shape(name)), tuple(largest))

    def _output(self, name: str) -> _Place:
        largest = tuple(self._context.get_tensor_shape(name))
        if any(size < 0 for size in largest):
            raise Unsupported(f"TensorRT: the shape of output {name!r} hangs on values, not on shapes")
        return self._place(name, tuple(self._engine.get_tensor_shape(name)), largest)

    def _place(self, name: str, stated: tuple[int, ...], largest: tuple[int, ...]) -> _Place:
        dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
        if dtype.name not in _DTYPES:
            raise Unsupported(f"{name!r} is a tensor of {dtype}; wanted numbers")
        shape = tuple(size if size >= 0 else f"dim{index}" for index, size in enumerate(stated))
        address = _cuda(cuda.cudaMalloc(max(1, int(np.prod(largest)) * dtype.itemsize)))
        return _Place(TensorSpec(name=name, dtype=_DTYPES[dtype.name], shape=shape), dtype, largest, address)

    def _check(self, feeds: Tensors) -> None:
        for place in self._inputs:
            value = feeds.get(place.spec.name)
            if value is None:
                raise WrongInput(f"input {place.spec.name!r} is missing")
            if value.dtype != place.dtype:
                raise WrongInput(f"input {place.spec.name!r} is {place.dtype}, got {value.dtype}")
            fits = len(value.shape) == len(place.limits) and all(
                1 <= got <= limit if isinstance(want, str) else got == want
                for want, got, limit in zip(place.spec.shape, value.shape, place.limits, strict=True)
            )
            if not fits:
                raise WrongInput(
                    f"input {place.spec.name!r} has shape {list(place.spec.shape)}, at most {list(place.limits)}; "
                    f"got {list(value.shape)}"
                )
        if len(feeds) > len(self._inputs):
            strange = next(iter(set(feeds) - {place.spec.name for place in self._inputs}))
            raise WrongInput(f"the model has no input {strange!r}")


class TensorRt:
    formats = ("onnx", "tensorrt-engine")

    def __init__(self) -> None:
        """Raises Unsupported where there is no GPU, or its driver is too old for this TensorRT."""
        error, count = cuda.cudaGetDeviceCount()
        if error != cuda.cudaError_t.cudaSuccess or not count:
            raise Unsupported(f"TensorRT finds no NVIDIA GPU here ({error.name})", hint="nvidia-smi")

    def version(self) -> str:
        return str(trt.__version__)

    def providers(self) -> tuple[str, ...]:
        return (_builder("").device,)

    def load(self, model: bytes, *, threads: int) -> Session:  # noqa: ARG002 - the GPU has its own
        log = _Log()
        engine = self._given(model, log) if model.startswith(_ENGINE_MAGIC) else self._kept_or_built(model, log)
        return TensorRtSession(engine)

    def smoke_model(self) -> bytes:
        return base64.b64decode(_SMOKE)

    def _given(self, plan: bytes, log: _Log) -> Any:
        engine = trt.Runtime(log).deserialize_cuda_engine(plan)
        if engine is None:
            raise engine_fault(log.errors, f"TensorRT {self.version()} on {_builder('').device}")
        return engine

    def _kept_or_built(self, model: bytes, log: _Log) -> Any:
        builder = _builder(hashlib.sha256(model).hexdigest())
        file = engine_cache.folder("tensorrt") / engine_cache.name_of(builder)
        kept = engine_cache.opened(file.read_bytes(), builder) if file.is_file() else None
        engine = None if kept is None else trt.Runtime(log).deserialize_cuda_engine(kept)
        if engine is None:
            plan = _built(model, log)
            files.write_atomic(file, engine_cache.sealed(builder, plan))
            engine = self._given(plan, log)
        return engine


def _builder(model_digest: str) -> engine_cache.Builder:
    """This TensorRT on the first GPU, by its name and what it can do."""
    known = _cuda(cuda.cudaGetDeviceProperties(0))
    name = known.name.split(b"\0")[0].decode()
    return engine_cache.Builder("tensorrt", str(trt.__version__), name, f"{known.major}.{known.minor}", model_digest)


def _built(model: bytes, log: _Log) -> bytes:
    """The engine of an ONNX model. Raises WrongInput for bytes that are none, Unsupported for what it cannot build."""
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        raise parser_fault([parser.get_error(index).desc() for index in range(parser.num_errors)], trt.__version__)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        _bound(profile, tensor.name, tuple(tensor.shape))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        reason = " ".join(" ".join(log.errors[-1:]).split())[:300] or "it gives no reason"
        raise Unsupported(f"TensorRT {trt.__version__} cannot build this model: {reason}")
    return bytes(plan)


def _bound(profile: Any, name: str, shape: tuple[int, ...]) -> None:
    """Says how far the free first dimension may go. Raises Unsupported where another one is free."""
    if any(size < 0 for size in shape[1:]):
        raise Unsupported(f"TensorRT wants fixed shapes; input {name!r} has {list(shape)}", hint=f"--shape {name}=…")
    if shape and shape[0] < 0:
        one, largest = (1, *shape[1:]), (_LARGEST_BATCH, *shape[1:])
        profile.set_shape(name, one, one, largest)


def _cuda(answer: tuple[Any, ...]) -> Any:
    """What a call of CUDA gave. Raises Failed where it went wrong."""
    error, *values = answer
    if error != cuda.cudaError_t.cudaSuccess:
        raise Failed(f"CUDA failed: {error.name}")
    return values[0] if values else None


plugin: Runtime = TensorRt()
