"""An ONNX Runtime session, its errors as ours."""

import base64
import re
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as faults

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

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        try:
            return self._run(None, feeds)  # type: ignore[no-any-return]
        except (faults.InvalidArgument, ValueError) as error:
            raise WrongInput(f"the model does not take this input: {sentence(error)}") from error
        except (faults.Fail, faults.RuntimeException, *_PROVIDER_FAULTS) as error:
            raise Failed(f"inference failed in ONNX Runtime: {sentence(error)}") from error


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
