"""A decoded LiteRT file → an ONNX model with the same answers."""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgeward.kit.errors import Unsupported
from edgeward.optimize.from_litert import arranging, elementwise, layers
from edgeward.optimize.from_litert.builder import BATCH, Builder, NeedsFixedBatch
from edgeward.optimize.from_litert.file import LiteRtFile, Tensor

_OPSET, _IR_VERSION = 17, 8
_RULES = {**layers.RULES, **elementwise.RULES, **arranging.RULES}


class Converted(NamedTuple):
    """The model, and what a user should know of how it was made."""

    model: onnx.ModelProto
    notes: tuple[str, ...]


def convert(file: LiteRtFile) -> Converted:
    """Quantised tensors become QuantizeLinear/DequantizeLinear pairs; int8 inputs and quantised outputs become float32
    values, uint8 inputs stay bytes. A batch of 1 becomes free where no operator mixes samples.

    Raises Unsupported, naming the operator, for what has no rule.
    """
    strange = sorted({operator.name for operator in file.operators} - _RULES.keys())
    if strange:
        raise Unsupported(f"there is no rule to bring the LiteRT operator {', '.join(strange)} to ONNX")
    if all(file.tensors[index].shape[:1] == (1,) for _, index in (*file.inputs, *file.outputs)):
        try:
            return _built(file, free_batch=True)
        except NeedsFixedBatch:
            pass
    return _built(file, free_batch=False)


def _built(file: LiteRtFile, *, free_batch: bool) -> Converted:
    builder = Builder(file, free_batch=free_batch)
    for name, index in file.inputs:
        builder.put_input(index, name, rows=free_batch)
    for number, operator in enumerate(file.operators):
        builder.begin(number, operator)
        _RULES[operator.name](builder, operator)
    for name, index in file.outputs:
        if free_batch and index not in builder.rows:
            raise NeedsFixedBatch
        builder.nodes.append(helper.make_node("Identity", [builder.real(index)], [name]))
    inputs = [_value(name, file.tensors[index], is_input=True, free=free_batch) for name, index in file.inputs]
    outputs = [_value(name, file.tensors[index], is_input=False, free=free_batch) for name, index in file.outputs]
    graph = helper.make_graph(builder.nodes, "graph", inputs, outputs, builder.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    model.producer_name = file.producer
    onnx.checker.check_model(model, full_check=True)
    return Converted(model, tuple(sorted(builder.notes)))


def _value(name: str, tensor: Tensor, *, is_input: bool, free: bool) -> onnx.ValueInfoProto:
    is_bytes = is_input and tensor.dtype == "uint8"
    is_real = tensor.is_quantized and not is_bytes
    kind = TensorProto.FLOAT if is_real else helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    shape = [BATCH, *tensor.shape[1:]] if free else list(tensor.shape)
    return helper.make_tensor_value_info(name, kind, shape)
