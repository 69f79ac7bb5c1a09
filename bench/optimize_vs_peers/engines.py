"""A model file in its runtime, driven with as little Python as a good engineer would write; one thread, batch 1."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Run = Callable[[Sequence[Array]], list[Array]]
"""Tensors in the model's own order and dtypes, with their batch axis, to its outputs."""

RUNTIMES = ("onnxruntime", "litert", "openvino", "openvino-f32")
"""OpenVINO computes in bf16 where the CPU can, unless told to stay in f32: it takes part as both."""


class Port(NamedTuple):
    """One input or output. `scale` is 0 unless whole numbers stand for (value - zero_point) × scale."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float = 0.0
    zero_point: int = 0

    def quantised(self, tensor: Array) -> Array:
        """A tensor of true values as this input takes it."""
        if not self.scale:
            return tensor.astype(self.dtype, copy=False)
        limits = np.iinfo(self.dtype)
        return np.clip(np.rint(tensor / self.scale) + self.zero_point, limits.min, limits.max).astype(self.dtype)

    def dequantised(self, tensor: Array) -> Array:
        if not self.scale:
            return tensor
        return (tensor.astype(np.float32) - self.zero_point) * np.float32(self.scale)


class Engine(NamedTuple):
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    run: Run


def open_engine(runtime: str, file: Path) -> Engine:
    match runtime:
        case "onnxruntime":
            return _onnxruntime(file)
        case "litert":
            return _litert(file)
        case "openvino":
            return _openvino(file, {})
        case "openvino-f32":
            return _openvino(file, {"INFERENCE_PRECISION_HINT": "f32"})
        case _:
            raise ValueError(f"no peer runs in {runtime!r}; there are {', '.join(RUNTIMES)}")


def size_bytes(file: Path) -> int:
    """The model's bytes on disk; an OpenVINO model is two files."""
    weights = file.with_suffix(".bin")
    beside = weights.stat().st_size if file.suffix == ".xml" and weights.exists() else 0
    data = file.with_name(f"{file.name}.data")
    return file.stat().st_size + beside + (data.stat().st_size if data.exists() else 0)


def _onnxruntime(file: Path) -> Engine:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(tensors: Sequence[Array]) -> list[Array]:
        return session.run(None, dict(zip(names, tensors, strict=True)))  # type: ignore[no-any-return]

    return Engine(
        *(tuple(_onnx_port(n) for n in nodes) for nodes in (session.get_inputs(), session.get_outputs())), run
    )


def _onnx_port(node: Any) -> Port:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    return Port(node.name, dtype, tuple(dim if isinstance(dim, int) else 1 for dim in node.shape))


def _litert(file: Path) -> Engine:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    inputs = sorted(inputs, key=lambda detail: _place(detail["name"]))
    into, out_of = [detail["index"] for detail in inputs], [detail["index"] for detail in outputs]
    set_tensor, invoke, get_tensor = interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor

    def run(tensors: Sequence[Array]) -> list[Array]:
        for index, tensor in zip(into, tensors, strict=True):
            set_tensor(index, tensor)
        invoke()
        return [get_tensor(index) for index in out_of]

    return Engine(tuple(map(_litert_port, inputs)), tuple(map(_litert_port, outputs)), run)


def _place(name: str) -> int:
    """litert-torch names inputs "serving_default_args_1:0" in no order; others are in order."""
    number = name.partition("args_")[2].partition(":")[0]
    return int(number) if number.isdigit() else 0


def _litert_port(detail: Any) -> Port:
    scale, zero_point = detail["quantization"]
    shape = tuple(int(dim) for dim in detail["shape"])
    return Port(detail["name"], np.dtype(detail["dtype"]).name, shape, float(scale), int(zero_point))


def _openvino(file: Path, hints: dict[str, str]) -> Engine:
    import openvino as ov

    model = ov.Core().read_model(file)
    if any(port.partial_shape.is_dynamic for port in model.inputs):
        model.reshape(
            {port.any_name: [d.get_length() if d.is_static else 1 for d in port.partial_shape] for port in model.inputs}
        )
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", **hints}
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    into = [tensor.data for tensor in request.input_tensors]
    infer, outputs = request.infer, request.output_tensors

    def run(tensors: Sequence[Array]) -> list[Array]:
        for place, tensor in zip(into, tensors, strict=True):
            np.copyto(place, tensor)
        infer()
        return [tensor.data for tensor in outputs]

    ports = [
        tuple(Port(port.any_name, port.element_type.to_dtype().name, tuple(port.shape)) for port in side)
        for side in (request.model_inputs, request.model_outputs)
    ]
    return Engine(ports[0], ports[1], run)
