"""Weights of matrix products in int8, one scale for each output; activations stay as they are.

A quarter of the size everywhere. LiteRT quantises the activations of such a product while it runs (dynamic int8);
ONNX Runtime and OpenVINO compute it in float.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeward.optimize.passes.base import Context, DoesNotApply, Pass, Passed
from edgeward.records.candidate import Step

_LEAST_WEIGHTS = 256
"""Below so many a scale and two operators cost more than they save."""


class QuantizeWeights:
    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:  # noqa: ARG002 - no options
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        weights = {tensor.name: tensor for tensor in copy.graph.initializer}
        made: list[onnx.NodeProto] = []
        for node in copy.graph.node:
            if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in weights:
                continue
            tensor = weights[node.input[1]]
            if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 2:
                continue
            values = numpy_helper.to_array(tensor)
            if values.size >= _LEAST_WEIGHTS:
                made += _quantised(copy.graph, node, values)
        if not made:
            raise DoesNotApply("there is no matrix product with constant weights in it")
        nodes = [*made, *copy.graph.node]
        del copy.graph.node[:]
        copy.graph.node.extend(nodes)
        return Passed(copy, context.preprocess, (f"int8 weights in {len(made)} matrix products",))


def _quantised(graph: onnx.GraphProto, node: onnx.NodeProto, values: np.ndarray) -> list[onnx.NodeProto]:
    """Symmetric around zero, with 127 for the largest weight of each output."""
    axis = 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    largest = np.abs(values).max(axis=1 - axis)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    stored = np.rint(values / (scale[:, None] if axis == 0 else scale[None, :])).astype(np.int8)
    name = f"{node.output[0]}_weights"
    graph.initializer.extend(
        numpy_helper.from_array(value, f"{name}_{part}")
        for part, value in (("int8", stored), ("scale", scale), ("zero", np.zeros(len(scale), np.int8)))
    )
    node.input[1] = f"{name}_float"
    inputs = [f"{name}_int8", f"{name}_scale", f"{name}_zero"]
    return [helper.make_node("DequantizeLinear", inputs, [f"{name}_float"], axis=axis)]


plugin: Pass = QuantizeWeights()
