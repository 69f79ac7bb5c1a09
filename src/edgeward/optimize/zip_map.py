"""Class probabilities as a tensor, where scikit-learn's converter hands out a map from class to probability for each
sample (ZipMap): no runtime but ONNX Runtime gives maps, and they cost it more than most such models."""

import onnx
from onnx import TensorProto, helper


def without_zip_maps(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the tensor behind each ZipMap as its output, of the same name; `model` itself without one."""
    outputs = {output.name: place for place, output in enumerate(model.graph.output)}
    zipped = [node for node in model.graph.node if node.op_type == "ZipMap" and node.output[0] in outputs]
    if not zipped:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in zipped:
        name = node.output[0]
        copy.graph.node.remove(node)
        # Maps hold float32, whatever the tensor behind them is.
        cast = helper.make_node("Cast", [node.input[0]], [name], name=node.name, to=TensorProto.FLOAT)
        copy.graph.node.append(cast)
        shape = ["batch", _class_count(node)]
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        copy.graph.output[outputs[name]].CopyFrom(value)
    return copy


def _class_count(node: onnx.NodeProto) -> int | None:
    return next(
        (len(one.strings) or len(one.ints) for one in node.attribute if one.name.startswith("classlabels")), None
    )
