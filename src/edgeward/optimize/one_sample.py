"""A model for one sample at a time, with every shape fixed: what formats without free dimensions are written from."""

import onnx
from onnx import shape_inference

from edgeward.kit.errors import Unsupported


def one_sample(model: onnx.ModelProto, form: str) -> onnx.ModelProto:
    """A copy with a batch of one and all shapes inferred, constant ones folded first.

    Raises Unsupported, with the name of the format, where another dimension is free.
    """
    return _inferred(_with_batch_of_one(model, form), form)


def _with_batch_of_one(model: onnx.ModelProto, form: str) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = {tensor.name for tensor in copy.graph.initializer}
    for node in copy.graph.input:
        if node.name in constants:
            continue
        for index, dim in enumerate(node.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                continue
            if index > 0:
                raise Unsupported(
                    f"{form} wants fixed shapes; input {node.name!r} has a free dimension at place {index}",
                    hint=f"--shape {node.name}=…",
                )
            dim.dim_value = 1
    del copy.graph.value_info[:]
    for node in copy.graph.output:
        node.type.tensor_type.ClearField("shape")
    return copy


def _inferred(model: onnx.ModelProto, form: str) -> onnx.ModelProto:
    if any(node.op_type in ("Shape", "ConstantOfShape", "Range", "Size") for node in model.graph.node):
        import onnxslim

        model = onnxslim.slim(model)
    try:
        return shape_inference.infer_shapes(model, data_prop=True)
    except shape_inference.InferenceError as error:
        raise Unsupported(f"{form}: shapes cannot be inferred: {' '.join(str(error).split())[:150]}") from error
