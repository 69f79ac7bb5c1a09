"""An ONNX Runtime session, its errors as ours."""

import base64
import re
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as faults

from edgeward.infer.single import Single, single_spec
from edgeward.infer.tensors import Tensors
from edgeward.kit.errors import Failed, Unsupported, WrongInput
from edgeward.records.model import Dtype, TensorSpec

CPU = "CPUExecutionProvider"

_DTYPES: dict[str, Dtype] = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64",
    "tensor(bfloat16)": "bfloat16", "tensor(int8)": "int8", "tensor(uint8)": "uint8",
    "tensor(int16)": "int16", "tensor(uint16)": "uint16", "tensor(int32)": "int32", "tensor(uint32)": "uint32",
    "tensor(int64)": "int64", "tensor(uint64)": "uint64", "tensor(bool)": "bool", "tensor(string)": "string",
}  # fmt: skip

_LOAD_FAULTS = (
    faults.Fail, faults.InvalidArgument, faults.InvalidGraph, faults.InvalidProtobuf, faults.RuntimeException,
)  # fmt: skip

_PROVIDER_FAULTS = (faults.EPFail, faults.EngineError)
_RUN_FAULTS = (faults.InvalidArgument, ValueError, faults.Fail, faults.RuntimeException, *_PROVIDER_FAULTS)
_SILENT = 4

# One Add node, y = x + x, opset 13; what onnx.parser makes of this text:
# <ir_version: 8, opset_import: ["": 13]> g (float[n] x) => (float[n] y) { y = Add(x, x) }
_SMOKE = "CAg6OQoQCgF4CgF4EgF5IgNBZGQ6ABIBZ1oQCgF4EgsKCQgBEgUKAxIBbmIQCgF5EgsKCQgBEgUKAxIBbkIECgAQDQ=="


class OrtSession:
    """A loaded ONNX model. `run` adds one Python call to ONNX Runtime's own."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._run = session.run
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_spec(node) for node in session.get_outputs())
        self.single = _single(session, self.inputs, self.outputs)
        self.concurrent = session.get_providers() == [CPU]

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        try:
            return self._run(None, feeds)  # type: ignore[no-any-return]
        except _RUN_FAULTS as error:
            raise _run_fault(error) from error


def _single(
    session: ort.InferenceSession, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> Single | None:
    spec = single_spec(inputs, outputs)
    if spec is None:
        return None
    # The object below the public one: the checks between, of what is known to fit, cost as much as a small model.
    native, name, names = session._sess.run, spec.name, [output.name for output in outputs]

    def run(tensor: NDArray[Any]) -> list[NDArray[Any]]:
        try:
            return [value[0] for value in native(names, {name: tensor[None]}, None)]
        except _RUN_FAULTS as error:
            raise _run_fault(error) from error

    shape = tuple(dim for dim in spec.shape[1:] if isinstance(dim, int))
    return Single(name, np.dtype(spec.dtype), shape, run)


def _run_fault(error: Exception) -> WrongInput | Failed:
    if isinstance(error, (faults.InvalidArgument, ValueError)):
        return WrongInput(f"the model does not take this input: {sentence(error)}")
    return Failed(f"inference failed in ONNX Runtime: {sentence(error)}")


def version() -> str:
    return str(ort.__version__)


def smoke_model() -> bytes:
    """A model of one node that doubles its input, "x"."""
    return base64.b64decode(_SMOKE)


def options_for(threads: int) -> ort.SessionOptions:
    """A quiet session on `threads` threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    return options


def opened(model: bytes, options: ort.SessionOptions, providers: list[Any] | None) -> ort.InferenceSession:
    """Raises WrongInput for bytes that are no ONNX model, Unsupported for an operator that ONNX Runtime has not."""
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except faults.NotImplemented as error:
        raise Unsupported(f"ONNX Runtime {version()} cannot run this model: {sentence(error)}") from error
    except _PROVIDER_FAULTS as error:
        raise Unsupported(f"the execution provider took this model and failed: {sentence(error)}") from error
    except _LOAD_FAULTS as error:
        raise _load_fault(sentence(error)) from error


def read(model: bytes) -> object:
    """The model's graph, not yet optimised or given kernels: the first half of what InferenceSession does."""
    return faults.InferenceSession(options_for(1), model, False, False)


def _spec(node: Any) -> TensorSpec:
    if node.type not in _DTYPES:
        raise Unsupported(f"{node.name!r} is a {node.type}; wanted a tensor", hint="export the model without it")
    shape = tuple(
        dim if isinstance(dim, int) and dim >= 0 else (dim if isinstance(dim, str) and dim else f"dim{index}")
        for index, dim in enumerate(node.shape)
    )
    return TensorSpec(name=node.name, dtype=_DTYPES[node.type], shape=shape)


def _load_fault(sentence: str) -> WrongInput | Unsupported:
    unknown = re.search(r"(\S+) is not a registered function/op|No Op registered for (\S+)", sentence)
    if unknown:
        name = (unknown.group(1) or unknown.group(2)).strip(":'\"")
        return Unsupported(f"ONNX Runtime {version()} has no operator {name}, which this model uses")
    return WrongInput(f"this is no valid ONNX model: {sentence}")


def sentence(error: Exception) -> str:
    """ONNX Runtime's message without its code, file and line."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    text = re.sub(r"/\S+\.(cc|h):\d+ \S.*?\) ", "", text)
    return " ".join(text.split())[:300]
