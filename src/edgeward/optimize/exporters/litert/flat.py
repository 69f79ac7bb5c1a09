"""Writes a LiteRT flatbuffer: tensors, operators, and one signature that names inputs and outputs.

Format: tensorflow/lite schema version 3 (file identifier "TFL3").
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported

_TYPES = {
    "float32": schema.TensorType.FLOAT32, "int8": schema.TensorType.INT8, "uint8": schema.TensorType.UINT8,
    "int32": schema.TensorType.INT32, "int64": schema.TensorType.INT64, "bool": schema.TensorType.BOOL,
    "float16": schema.TensorType.FLOAT16,
}  # fmt: skip
_INT8_VERSIONS = {
    "ADD": 2, "AVERAGE_POOL_2D": 2, "BATCH_MATMUL": 2, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3,
    "DEQUANTIZE": 2, "FULLY_CONNECTED": 4, "GATHER": 2, "LEAKY_RELU": 2, "LOGISTIC": 2, "MAX_POOL_2D": 2, "MEAN": 2,
    "MUL": 2, "PAD": 2, "PADV2": 2, "QUANTIZE": 2, "RELU": 2, "RELU6": 2, "RESIZE_BILINEAR": 2,
    "RESIZE_NEAREST_NEIGHBOR": 2, "SLICE": 2, "SOFTMAX": 2, "SPLIT": 2, "STRIDED_SLICE": 2, "SUB": 2, "TANH": 2,
    "TRANSPOSE": 2, "TRANSPOSE_CONV": 3,
}  # fmt: skip
"""The operator version that brought int8, so that an older runtime refuses the file instead of misreading it."""
_HALF_VERSIONS = {"DEQUANTIZE": 3}
_LAST_BUILTIN_IN_ONE_BYTE = 127


class Quantisation(NamedTuple):
    """value = scale × (stored - zero point); several scales run along `axis` of the stored tensor."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0

    @property
    def is_per_tensor(self) -> bool:
        return len(self.scales) == 1


class FlatModel:
    """A model under construction; `to_bytes` ends it."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]
        self._constants: dict[tuple[Any, ...], int] = {}
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}

    def tensor(self, shape: Sequence[int], dtype: str, quantisation: Quantisation | None = None, name: str = "") -> int:
        """A tensor that is fed or computed."""
        return self._add(shape, dtype, 0, quantisation, name)

    def constant(self, values: NDArray[Any], quantisation: Quantisation | None = None) -> int:
        """A tensor that stands in the file; equal ones share their place."""
        values = np.ascontiguousarray(values)
        key = (values.dtype.str, values.shape, values.tobytes(), quantisation)
        if key not in self._constants:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            self._buffers.append(buffer)
            place = len(self._buffers) - 1
            self._constants[key] = self._add(values.shape, str(values.dtype), place, quantisation, "")
        return self._constants[key]

    def operator(self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None) -> None:
        """`name` as in the schema's BuiltinOperator; an input of -1 is left out."""
        entry = schema.OperatorT()
        entry.opcodeIndex = self._code(name, self._dtype_of(inputs[0]))
        entry.inputs, entry.outputs = list(inputs), list(outputs)
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            entry.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            entry.builtinOptions = options
        self._operators.append(entry)

    def name(self, tensor: int, name: str) -> None:
        """Gives a tensor a name that people read."""
        self._tensors[tensor].name = name

    def state_quantisation(self, tensor: int, quantisation: Quantisation) -> None:
        """Says how the stored values of a tensor are to be read."""
        self._tensors[tensor].quantization = _quantization(quantisation)

    def shape_of(self, tensor: int) -> tuple[int, ...]:
        return tuple(self._tensors[tensor].shape)

    def to_bytes(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
        """The file. `inputs` and `outputs` are the names that callers use."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.name = self._tensors, self._operators, "main"
        graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
        model = schema.ModelT()
        model.version, model.description = 3, "edgeward"
        model.operatorCodes = [_operator_code(code, version) for code, version in self._codes]
        model.subgraphs, model.buffers, model.signatureDefs = [graph], self._buffers, [_signature(inputs, outputs)]
        builder = _Builder(1 << 16)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _add(self, shape: Sequence[int], dtype: str, buffer: int, quantisation: Quantisation | None, name: str) -> int:
        if dtype not in _TYPES:
            raise Unsupported(f"LiteRT: tensors of {dtype}")
        entry = schema.TensorT()
        entry.shape, entry.type, entry.buffer = np.array(shape, np.int32), _TYPES[dtype], buffer
        entry.name = name or None
        entry.hasRank = True
        if quantisation is not None:
            entry.quantization = _quantization(quantisation)
        self._tensors.append(entry)
        return len(self._tensors) - 1

    def _dtype_of(self, tensor: int) -> int:
        return int(self._tensors[tensor].type)

    def _code(self, name: str, dtype: int) -> int:
        versions = {schema.TensorType.INT8: _INT8_VERSIONS, schema.TensorType.FLOAT16: _HALF_VERSIONS}
        version = versions.get(dtype, {}).get(name, 1)
        return self._codes.setdefault((getattr(schema.BuiltinOperator, name), version), len(self._codes))


class _Builder(flatbuffers.Builder):  # type: ignore[misc]  # the library ships no types
    """Equal vectors of shapes, scales or zero points share their place: they are a tenth of a small model."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._places: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, values: NDArray[Any]) -> int:  # noqa: N802 - the name is flatbuffers'
        if values.dtype not in (np.float32, np.int32, np.int64):
            return int(super().CreateNumpyVector(values))
        key = (values.dtype.str, values.tobytes())
        if key not in self._places:
            self._places[key] = int(super().CreateNumpyVector(values))
        return self._places[key]


def _quantization(quantisation: Quantisation) -> Any:
    entry = schema.QuantizationParametersT()
    entry.scale = np.asarray(quantisation.scales, np.float32)
    entry.zeroPoint = np.asarray(quantisation.zero_points, np.int64)
    entry.quantizedDimension = quantisation.axis
    return entry


def _operator_code(code: int, version: int) -> Any:
    entry = schema.OperatorCodeT()
    entry.builtinCode, entry.version = code, version
    entry.deprecatedBuiltinCode = min(code, _LAST_BUILTIN_IN_ONE_BYTE)
    return entry


def _signature(inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs = [_named(name, index) for name, index in inputs.items()]
    signature.outputs = [_named(name, index) for name, index in outputs.items()]
    return signature


def _named(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
