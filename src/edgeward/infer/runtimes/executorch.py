"""ExecuTorch on the CPU, by its Python bindings.

What the exporter gave to XNNPACK runs there, the rest in ExecuTorch's plain kernels. A program says shapes, but no
names: those stand in a method of ours, "edgeward", that gives them as JSON. A program without it has the inputs "x0",
"x1", … .
"""

import base64
import threading
import zlib
from importlib.metadata import version as version_of
from typing import Any

import msgspec
import numpy as np
import torch
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Runtime as Engine
from numpy.typing import NDArray

from edgeward.infer.runtimes.base import Runtime, Session, Tensors
from edgeward.infer.silence import silence
from edgeward.infer.tensors import check
from edgeward.kit.errors import Failed, Unsupported, WrongInput
from edgeward.records.model import Dtype, TensorSpec

_SIGNATURE = "edgeward"
_MAGIC = slice(4, 8)
# The numbers are torch's own, in its ScalarType.
_DTYPES: dict[int, Dtype] = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64", 11: "bool",
}  # fmt: skip

# One aten.add, y = x + x, float32, one free dimension of at most 16, for XNNPACK, as the exporter writes it; deflated.
_SMOKE = (
    "eNq1Vc1u00AQnq3cYIJVRZEbeqiQteLAwUJOuUDVQ1SB1ANCPXCIZCIwsUsijGMljkgVRepj9MQTcOAJEI+AEIceOfQ1WjO7O042VoJAKht9u/Z4"
    "5tvZ+dkcAMCzl829qOd5Dj57myDHGa1vGMxHDXZwtnG1wAQDV/EGcB9xpGFylecGrpopbCAEv4Uw5WzguuA35G9Z/4yBlH26znOxh6vhOeKY8Ev4"
    "zZb3KwYDxXGIHBbtb63QKesfo76pRJUfdJ4hYsr7STrORnzfn/Ik+BDxfT7hLg+z01Q8n8SDIHu0h5JRLxASnye8M+u4fDDOyoanf2E4A7i4Ur48"
    "RTxB+E3XmXJl5yTjOHYd3h0kWTTJNEGvH4fDKHk9SqMuin3k0s4p+KLwXfQxGIYADXiAWXRgFzO8yG+DcvsYkRK+I34iLhDnGKzLDZWrYnxbEcuv"
    "+SL2Nn37gjKKO9vCqZ0kadB9f4iIknBhX5NP1blPVeJpEZhWU3eopmpUQqZ8M2he+FnON9NkQick/c/o464QbjYwFtuS2ZpH75aMjzAVZxKdIXUr"
    "FelnpcRbnMXEE9wmnwruHbi7lrumcyP7JfrUWsutYmQSy03Uy3XZnr8d9+Osn4weZuM0jvgSFxdkfBXbjdn/i/+zlX6H/W5W2tbv8HUUHZENgJPB"
    "ULXKfxjtI8+7J2/HFlu+cdWd2X7hNUWPOjK3FubaljUhqkLUic1UPx5Q/bpkZ2g9yHN1h/2p7l/Ne2kLz6y6R6ioveq4W4XubuVBnZiK+mPEw0o1"
    "qXPZZF0wibeaxmOW7PU7oC6ZLHkHFFyMvpn0L1LV7D3Ebxf08Uk="
)


class Signature(msgspec.Struct):
    """What the exporter writes beside a program."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class ExecuTorchSession:
    """A loaded program. One run at a time: a method owns its memory."""

    def __init__(self, program: Any, method: Any, signature: Signature) -> None:
        self._program = program  # the method reads its weights from the program's bytes
        self._execute = method.execute
        self._lock = threading.Lock()
        self._limits = [method.metadata.input_tensor_meta(index).sizes() for index in range(len(signature.inputs))]
        self.inputs = signature.inputs
        self.outputs = signature.outputs

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        self._check(feeds)
        given = [torch.from_numpy(np.ascontiguousarray(feeds[spec.name])) for spec in self.inputs]
        with self._lock:
            try:
                return [value.numpy() for value in self._execute(given)]
            except RuntimeError as error:
                raise Failed(f"inference failed in ExecuTorch: {_sentence(error)}") from error

    def _check(self, feeds: Tensors) -> None:
        check(feeds, self.inputs)
        for spec, limits in zip(self.inputs, self._limits, strict=True):
            shape = feeds[spec.name].shape
            if any(
                isinstance(want, str) and got > most for want, got, most in zip(spec.shape, shape, limits, strict=True)
            ):
                raise WrongInput(f"input {spec.name!r} has shape {list(spec.shape)}, got {list(shape)}")


class ExecuTorch:
    formats = ("executorch",)

    def version(self) -> str:
        return version_of("executorch")

    def providers(self) -> tuple[str, ...]:
        return tuple(Engine.get().backend_registry.registered_backend_names)

    def load(self, model: bytes, *, threads: int) -> Session:
        if model[_MAGIC][:2] != b"ET":
            raise WrongInput("these bytes are no ExecuTorch program")
        if portable_lib._threadpool_get_thread_count() != threads:
            portable_lib._unsafe_reset_threadpool(threads)  # the only way to say it; for the whole process
        with silence():
            try:
                program = Engine.get().load_program(model)
            except RuntimeError as error:
                raise WrongInput(f"this is no valid ExecuTorch program: {_sentence(error)}") from error
            if "forward" not in program.method_names:
                raise WrongInput("this ExecuTorch program has no method 'forward'")
            try:
                method = program.load_method("forward")
            except RuntimeError as error:
                raise Unsupported(f"ExecuTorch cannot run this program: {_sentence(error)}") from error
        return ExecuTorchSession(program, method, _signature(program, method))

    def smoke_model(self) -> bytes:
        return zlib.decompress(base64.b64decode(_SMOKE))


def _signature(program: Any, method: Any) -> Signature:
    if _SIGNATURE in program.method_names:
        (text,) = program.load_method(_SIGNATURE).execute([])
        try:
            return msgspec.json.decode(text, type=Signature)
        except (msgspec.DecodeError, TypeError) as error:
            raise WrongInput(f"the names in this ExecuTorch program cannot be read: {error}") from error
    known = method.metadata
    return Signature(
        tuple(_spec(f"x{index}", known.input_tensor_meta(index)) for index in range(known.num_inputs())),
        tuple(_spec(f"y{index}", known.output_tensor_meta(index)) for index in range(known.num_outputs())),
    )


def _spec(name: str, tensor: Any) -> TensorSpec:
    if tensor.dtype() not in _DTYPES:
        raise Unsupported(f"{name!r} is a tensor of torch's type {tensor.dtype()}; wanted numbers")
    return TensorSpec(name=name, dtype=_DTYPES[tensor.dtype()], shape=tuple(tensor.sizes()))


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


plugin: Runtime = ExecuTorch()
