"""The micro-benchmarks of the roofs as LiteRT models."""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeward.measure.profiling.roof_models import RoofModel, RoofShape

_FLOAT, _INT8, _INT32 = schema.TensorType.FLOAT32, schema.TensorType.INT8, schema.TensorType.INT32
_OPTIONS = schema.BuiltinOptions


class _Model:
    """One operator with the tensors that it has."""

    def __init__(self) -> None:
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.subgraphs, self.model.buffers = 3, [self.graph], [schema.BufferT()]
        self.graph.tensors = []

    def tensor(self, shape: tuple[int, ...], kind: int, data: Any = None, scales: Any = None) -> int:
        made, buffer = schema.TensorT(), schema.BufferT()
        made.name, made.shape, made.type = f"t{len(self.graph.tensors)}", list(shape), kind
        if data is not None:
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        made.buffer = len(self.model.buffers) - 1
        if scales is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = list(scales)
            made.quantization.zeroPoint = [0] * len(scales)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def packed(self, code: int, options: int, values: Any, inputs: list[int], output: int, version: int = 1) -> bytes:
        operator, known = schema.OperatorT(), schema.OperatorCodeT()
        known.builtinCode, known.deprecatedBuiltinCode, known.version = code, min(code, 127), version
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = options, values
        self.model.operatorCodes, self.graph.operators = [known], [operator]
        self.graph.inputs, self.graph.outputs = inputs[:1], [output]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def litert_float(shape: RoofShape) -> bytes:
    return _made(shape, _FLOAT)


def litert_int8(shape: RoofShape) -> bytes:
    return _made(shape, _INT8)


def litert_pass(count: int) -> RoofModel:
    """Reads `count` numbers and writes as many."""
    model = _Model()
    fed, result = model.tensor((1, count), _FLOAT), model.tensor((1, count), _FLOAT)
    data = model.packed(schema.BuiltinOperator.RELU, _OPTIONS.NONE, None, [fed], result)
    return RoofModel(f"RELU over {8 * count >> 10} KiB", data, moved_bytes=8 * count)


def _made(shape: RoofShape, kind: int) -> bytes:
    generator = np.random.default_rng(0)
    is_product = len(shape.sizes) == 3
    fed: tuple[int, ...]
    weight: tuple[int, ...]
    given: tuple[int, ...]
    if is_product:
        rows, inner, columns = shape.sizes
        fed, weight, given = (rows, inner), (columns, inner), (rows, columns)
    else:
        side, channels, columns, window = shape.sizes
        fed, weight, given = (1, side, side, channels), (columns, window, window, channels), (1, side, side, columns)
    model = _Model()
    is_float = kind == _FLOAT
    values = generator.uniform(-1, 1, weight)
    x = model.tensor(fed, kind, scales=None if is_float else [0.02])
    stored = values.astype(np.float32) if is_float else np.rint(values * 127).astype(np.int8)
    w = model.tensor(weight, kind, stored, None if is_float else [1 / 127])
    zeros = np.zeros(columns, np.float32 if is_float else np.int32)
    b = model.tensor((columns,), _FLOAT if is_float else _INT32, zeros, None if is_float else [0.02 / 127])
    y = model.tensor(given, kind, scales=None if is_float else [0.5])
    if is_product:
        options = schema.FullyConnectedOptionsT()
        code, form = schema.BuiltinOperator.FULLY_CONNECTED, _OPTIONS.FullyConnectedOptions
    else:
        options = schema.Conv2DOptionsT()
        options.padding, options.strideH, options.strideW = schema.Padding.SAME, 1, 1
        options.dilationHFactor = options.dilationWFactor = 1
        code, form = schema.BuiltinOperator.CONV_2D, _OPTIONS.Conv2DOptions
    return model.packed(code, form, options, [x, w, b], y, version=1 if is_float else 4 if is_product else 3)
