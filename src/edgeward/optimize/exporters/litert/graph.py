"""An ONNX graph as the exporter reads it: fixed shapes for one sample, constants as arrays, users by name."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeward.kit.errors import Unsupported
from edgeward.optimize.exporters.litert import gelu
from edgeward.optimize.one_sample import one_sample


class Graph(NamedTuple):
    """`shapes` are of one sample with its batch axis of 1; `users` are the nodes that read a value, `makers` the
    one that computes it."""

    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dtypes: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, NDArray[Any]]
    users: Mapping[str, tuple[onnx.NodeProto, ...]]
    makers: Mapping[str, onnx.NodeProto]

    def sole_user(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads `name`, None where several do or it leaves the graph."""
        users = self.users.get(name, ())
        return users[0] if len(users) == 1 and name not in self.outputs else None


def read(model: onnx.ModelProto) -> Graph:
    """Raises Unsupported where a shape stays unknown."""
    fixed = one_sample(model, "LiteRT")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in fixed.graph.initializer}
    nodes = []
    for node in fixed.graph.node:
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if value is None:
                raise Unsupported(f"LiteRT: the constant {node.output[0]!r} has no tensor value")
            constants[node.output[0]] = numpy_helper.to_array(value)
        else:
            nodes.append(node)
    nodes = gelu.fuse(nodes, constants)
    shapes, dtypes = _stated(fixed)
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in dict.fromkeys(node.input):
            users.setdefault(name, []).append(node)
    inputs = tuple(node.name for node in fixed.graph.input if node.name not in constants)
    return Graph(
        tuple(nodes), inputs, tuple(node.name for node in fixed.graph.output), dtypes, shapes, constants,
        {name: tuple(found) for name, found in users.items()},
        {name: node for node in nodes for name in node.output},
    )  # fmt: skip


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """An attribute's value; bytes come as text."""
    found = next((entry for entry in node.attribute if entry.name == name), None)
    value = default if found is None else helper.get_attribute_value(found)
    return value.decode() if isinstance(value, bytes) else value


def _stated(model: onnx.ModelProto) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for node in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        if not node.type.tensor_type.elem_type:
            raise Unsupported(f"LiteRT: {node.name!r} is no tensor, or its type is not known before it runs")
        dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in node.type.tensor_type.shape.dim]
        dtypes[node.name] = np.dtype(helper.tensor_dtype_to_np_dtype(node.type.tensor_type.elem_type)).name
        if node.type.tensor_type.HasField("shape") and -1 not in dims:
            shapes[node.name] = tuple(dims)
    for tensor in model.graph.initializer:
        shapes[tensor.name] = tuple(tensor.dims)
        dtypes[tensor.name] = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).name
    return shapes, dtypes
