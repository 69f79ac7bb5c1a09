"""A graph while a pass rewires it: who makes and who reads a value, its constants, and new constants in their place."""

from collections.abc import Sequence
from itertools import chain, count
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]


class Wiring:
    """A copy of `model` to change. Constants that it sets get names of their own: other readers keep the old ones.

    Files before IR version 4 list their constants among the inputs too; here they are constants alone.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        self._tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        inputs = [entry for entry in self.graph.input if entry.name not in self._tensors]
        if len(inputs) < len(self.graph.input):
            del self.graph.input[:]
            self.graph.input.extend(inputs)
            self.model.ir_version = max(self.model.ir_version, 8)
        self._outputs = {output.name for output in self.graph.output}
        self._index()

    def _index(self) -> None:
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def sole_reader(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads the value, None where there are several or it is an answer of the graph."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self._outputs else None

    def constant(self, node: onnx.NodeProto, index: int) -> Array | None:
        """The values of an input that is a constant, else None."""
        if index >= len(node.input) or node.input[index] not in self._tensors:
            return None
        return np.asarray(numpy_helper.to_array(self._tensors[node.input[index]]))

    def is_left_out(self, node: onnx.NodeProto, index: int) -> bool:
        """Whether an optional input is not given."""
        return index >= len(node.input) or not node.input[index]

    def set_constant(self, node: onnx.NodeProto, index: int, values: Array) -> None:
        """Gives the node a constant of its own; the old one goes where nothing else reads it."""
        old = "" if self.is_left_out(node, index) else node.input[index]
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = self.add_constant(f"{node.output[0]}_input_{index}", values)
        self._index()
        self.drop_unread(old)

    def drop_unread(self, name: str) -> None:
        """Takes a constant out that no operator reads."""
        if name in self._tensors and name not in self.readers and name not in self._outputs:
            self.graph.initializer.remove(self._tensors.pop(name))

    def add_constant(self, wish: str, values: Array) -> str:
        """A new constant; returns its name, which is `wish` where that is free."""
        name = self.free_name(wish)
        self._tensors[name] = self.graph.initializer.add()
        # `ascontiguousarray` makes a list of one number of a number.
        self._tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name))
        return name

    def free_name(self, wish: str) -> str:
        taken = {*self._tensors, *self.makers, *self.readers, *self._outputs}
        candidates = chain([wish], (f"{wish}_{number}" for number in count()))
        return next(name for name in candidates if name not in taken)

    def remove(self, nodes: list[onnx.NodeProto]) -> None:
        for node in nodes:
            self.graph.node.remove(node)
        self._index()

    def insert(self, place: int, node: onnx.NodeProto) -> None:
        self.graph.node.insert(place, node)
        self._index()


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of an attribute, `default` where it is not given."""
    found = next((entry for entry in node.attribute if entry.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def pads_with_zeros(conv: onnx.NodeProto) -> bool:
    """Whether a convolution may see zeros beyond its input's border."""
    automatic = attribute(conv, "auto_pad", b"NOTSET")
    return automatic in (b"SAME_UPPER", b"SAME_LOWER") or any(attribute(conv, "pads", [0]))


def averages_pixels(wiring: Wiring, mean: onnx.NodeProto) -> bool:
    """Whether a ReduceMean is taken over height and width alone, which stay as axes."""
    axes = wiring.constant(mean, 1)
    found = attribute(mean, "axes", []) if axes is None else axes.tolist()
    return sorted(found) in ([2, 3], [-2, -1]) and bool(attribute(mean, "keepdims", 1))


def making(model: onnx.ModelProto, values: Sequence[str]) -> onnx.ModelProto:
    """The part of the model that makes `values`, which are its answers now."""
    wiring = Wiring(model)
    needed, wanted = set[str](), [*values]
    while wanted:
        name = wanted.pop()
        if name not in needed:
            needed.add(name)
            wanted += wiring.makers[name].input if name in wiring.makers else ()
    wiring.remove([node for node in wiring.graph.node if not needed & set(node.output)])
    del wiring.graph.output[:]
    wiring.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values)
    kept = [tensor for tensor in wiring.graph.initializer if tensor.name in needed]
    del wiring.graph.initializer[:]
    wiring.graph.initializer.extend(kept)
    return wiring.model
