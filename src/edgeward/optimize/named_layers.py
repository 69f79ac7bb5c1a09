"""The layers of a graph that int8 speeds up: what they are called, and which operators stand between them."""

from collections.abc import Collection, Iterator

import onnx

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators with products: the layers of a model."""
_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu")


def with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each operator has a name of its own, always the same one; without commas, which part names."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    taken: set[str] = set()
    for node in copy.graph.node:
        name = (node.name or node.output[0]).replace(",", "_")
        while name in taken:
            name += "_"
        node.name = name
        taken.add(name)
    return copy


def layers_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The layers of a model with names, in the order of its graph."""
    return [node for node in model.graph.node if node.op_type in HEAVY]


def around(model: onnx.ModelProto, layers: Collection[str], types: Collection[str]) -> Iterator[str]:
    """The names of the operators of these types between one of the layers named and the next layer, on either side.

    An activation right behind another layer is none of them: it is part of that one's work.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    before: dict[str, set[str]] = {}
    for node in model.graph.node:
        sources = [makers[name] for name in node.input if name in makers]
        before[node.name] = {name for source in sources for name in _seen(source, before)}
    after: dict[str, set[str]] = {}
    for node in reversed(model.graph.node):
        users = [user for name in node.output for user in readers.get(name, ())]
        after[node.name] = {name for user in users for name in _seen(user, after)}
    for node in model.graph.node:
        source = makers.get(node.input[0]) if node.input else None
        is_part = node.op_type in _ACTIVATIONS and source is not None and source.op_type in HEAVY
        near = before[node.name] if is_part else before[node.name] | after[node.name]
        if node.op_type in types and near & set(layers):
            yield node.name


def _seen(node: onnx.NodeProto, beyond: dict[str, set[str]]) -> set[str]:
    """The layer itself, or the layers on the other side of an operator between."""
    return {node.name} if node.op_type in HEAVY else beyond[node.name]
