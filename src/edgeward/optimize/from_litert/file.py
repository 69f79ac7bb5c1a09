"""The bytes of a .tflite file → its tensors and operators, as plain values."""

import struct
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported, WrongInput

_MAGIC = b"TFL3"
_OPERATORS: dict[int, str] = {code: name for name, code in vars(schema.BuiltinOperator).items() if type(code) is int}
_TYPES: dict[int, str] = {code: name.lower() for name, code in vars(schema.TensorType).items() if type(code) is int}


class Quantization(NamedTuple):
    """real = scale · (stored − zero_point); one pair, or one for each slice along `axis`."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int


class Tensor(NamedTuple):
    """`value` is there for constants only. `dtype` is numpy's name of what is stored; int4 is widened to int8."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    value: NDArray[Any] | None
    quantization: Quantization | None

    @property
    def is_quantized(self) -> bool:
        """Stored as small integers that stand for real numbers."""
        return self.quantization is not None and self.dtype in ("int8", "uint8", "int16")

    @property
    def scales(self) -> Quantization:
        """The quantisation of a tensor that is quantised."""
        if self.quantization is None:
            raise WrongInput(f"the tensor {self.name!r} of this LiteRT model has no scale")
        return self.quantization


class Operator(NamedTuple):
    """`inputs` are numbers of tensors, -1 for one that is left out. `options` is the schema's object, or None."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any

    def option(self, name: str, default: Any) -> Any:
        """The option `name`, or what the format says of one that is not written."""
        return getattr(self.options, name, default)


class LiteRtFile(NamedTuple):
    """The first graph of the file. `inputs` and `outputs` pair the name that people use with a tensor's number."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    producer: str


def decode(data: bytes) -> LiteRtFile:
    """Raises WrongInput for bytes that are no LiteRT model, or a damaged one; Unsupported for kinds that we leave."""
    if data[4:8] != _MAGIC:
        raise WrongInput("this is no LiteRT model: the mark TFL3 is missing at its start")
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        return _plain(model, data)
    except (struct.error, IndexError, TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise WrongInput(f"this LiteRT model is damaged or truncated ({len(data)} bytes)") from error


def _plain(model: Any, data: bytes) -> LiteRtFile:
    if not model.subgraphs:
        raise WrongInput("this LiteRT model has no graph in it")
    graph = model.subgraphs[0]
    tensors = tuple(_tensor(index, tensor, model.buffers, data) for index, tensor in enumerate(_list(graph.tensors)))
    operators = tuple(_operator(operator, model.operatorCodes, len(tensors)) for operator in _list(graph.operators))
    signature = next((one for one in _list(model.signatureDefs) if one.subgraphIndex == 0), None)
    inputs = _named(graph.inputs, signature.inputs if signature else (), tensors, "input")
    outputs = _named(graph.outputs, signature.outputs if signature else (), tensors, "output")
    if not outputs:
        raise WrongInput("this LiteRT model has no output")
    return LiteRtFile(tensors, operators, inputs, outputs, _text(model.description))


def _list(values: Any) -> Any:
    return () if values is None else values


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _numbers(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in _list(values))


def _named(numbers: Any, signature: Any, tensors: tuple[Tensor, ...], fallback: str) -> tuple[tuple[str, int], ...]:
    """In the graph's order, each name once: as the signature calls it, else as the tensor is called."""
    known = {entry.tensorIndex: _text(entry.name) for entry in _list(signature)}
    named: dict[str, int] = {}
    for number in _numbers(numbers):
        wanted = known.get(number) or tensors[number].name or fallback
        name, count = wanted, 1
        while name in named:
            name, count = f"{wanted}_{count}", count + 1
        named[name] = number
    return tuple(named.items())


def _tensor(index: int, tensor: Any, buffers: Any, data: bytes) -> Tensor:
    stored = _TYPES.get(tensor.type, str(tensor.type))
    name = _text(tensor.name)
    shape = _numbers(tensor.shape)
    if any(size < 0 for size in shape):
        raise WrongInput(f"the tensor {name or index!r} of this LiteRT model has the shape {shape}")
    raw = _raw(buffers[tensor.buffer], data)
    value = None if raw is None or tensor.isVariable else _value(name or str(index), raw, stored, shape, tensor)
    dtype = str(value.dtype) if value is not None else {"int4": "int8", "string": "object"}.get(stored, stored)
    signature = _numbers(tensor.shapeSignature) or shape
    return Tensor(name, dtype, shape, signature, value, _quantization(name, tensor.quantization))


def _raw(buffer: Any, data: bytes) -> NDArray[np.uint8] | None:
    """A buffer's bytes; files above 2 GB keep them behind the flatbuffer. None where there are none."""
    if buffer.offset > 1 and buffer.size:
        return np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
    if buffer.data is None or len(buffer.data) == 0:
        return None
    return np.asarray(buffer.data, np.uint8)


def _value(name: str, raw: NDArray[np.uint8], stored: str, shape: tuple[int, ...], tensor: Any) -> NDArray[Any]:
    if tensor.sparsity is not None:
        raise Unsupported(
            f"the weights {name!r} are stored sparse, which is not read", hint="convert it without sparsity"
        )
    if stored == "int4":
        halves = np.stack([raw << 4, raw], axis=-1).reshape(-1).view(np.int8) >> 4
        return halves[: int(np.prod(shape, dtype=np.int64))].reshape(shape)
    if stored == "bfloat16":
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if stored in ("string", "resource", "variant"):
        raise Unsupported(f"the tensor {name!r} holds {stored} values, which are not supported")
    return np.ascontiguousarray(raw).view(np.dtype(stored)).reshape(shape)


def _quantization(name: str, stored: Any) -> Quantization | None:
    if stored is None or stored.scale is None or len(stored.scale) == 0:
        return None
    if stored.details is not None:
        raise Unsupported(f"the tensor {name!r} is quantised in blocks or by own rules, which is not supported")
    scale = np.asarray(stored.scale, np.float32)
    if not np.all(np.isfinite(scale)) or np.any(scale < 0):
        raise WrongInput(f"the tensor {name!r} of this LiteRT model has a scale that is no positive number")
    points = np.zeros(len(scale), np.int64) if stored.zeroPoint is None else np.asarray(stored.zeroPoint, np.int64)
    if len(points) == 1:
        points = np.repeat(points, len(scale))
    return Quantization(scale, points, int(stored.quantizedDimension))


def _operator(operator: Any, codes: Any, tensor_count: int) -> Operator:
    code = codes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)  # files before 2020 know the old field alone
    name = _OPERATORS.get(number, f"number {number}")
    if name == "CUSTOM":
        name = f"CUSTOM {_text(code.customCode)}"
    inputs, outputs = _numbers(operator.inputs), _numbers(operator.outputs)
    if any(not -1 <= index < tensor_count for index in (*inputs, *outputs)):
        raise IndexError(name)
    return Operator(name, inputs, outputs, operator.builtinOptions or operator.builtinOptions2)
