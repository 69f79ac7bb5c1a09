"""Which channels of a graph belong together, and the same graph without some of them.

Every channel gets a label where a convolution or a dense layer makes it. Labels flow with the tensors; where two
meet (an addition, a gate, a depthwise convolution, a shared weight) they become one. What is not understood holds
its labels fast. A label that is free can leave: every weight loses its slices, and the graph is smaller in shape.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from edgeward.kit.errors import Unsupported

Labels = NDArray[np.int64]
Axes = list[Labels | None]
"""Per axis of a tensor its labels, None where the axis holds no channels that could leave."""

_SAME = frozenset({
    "Relu", "LeakyRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Clip", "Softplus", "Gelu", "Erf", "Abs",
    "Neg", "Sqrt", "Exp", "Log", "Reciprocal", "Identity", "Dropout", "Cast",
})  # fmt: skip
_BROADCAST = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "PRelu", "Pow"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
_REDUCTIONS = frozenset({"ReduceMean", "ReduceSum", "ReduceMax"})


class Slices(NamedTuple):
    """An axis of a weight with the label of each position. `makes`: these positions make the channels."""

    weight: str
    axis: int
    labels: Labels
    makes: bool


class Group(NamedTuple):
    """Channels of one width: they are made together, and leave one by one. `size` counts those held fast, too."""

    name: str
    size: int
    free: Labels


class Channels:
    """The channels of a graph with known shapes (see `prepared`)."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._shapes = _shapes(model)
        self._parent: list[int] = []
        self._block: list[str] = []
        self._held: set[int] = set()
        self._axes: dict[str, Axes] = {}
        self._slices: dict[tuple[str, int], Slices] = {}
        for node in model.graph.node:
            self._visit(node)
        for output in model.graph.output:
            self._hold(self._axes.get(output.name, []))

    # --- what comes out ---

    def slices(self) -> list[Slices]:
        """Every labelled axis of every weight, with the labels that stand for all that were joined."""
        return [item._replace(labels=self._roots(item.labels)) for item in self._slices.values()]

    def groups(self) -> list[Group]:
        """The channels that may leave, by the layers that make them."""
        held = {self._root(label) for label in self._held}
        members: dict[str, set[int]] = {}
        blocks = self._joined_blocks()
        for label in range(len(self._parent)):
            members.setdefault(blocks[self._block[label]], set()).add(self._root(label))
        return [
            Group(name, len(roots), np.array(sorted(roots - held), np.int64))
            for name, roots in members.items() if roots - held
        ]  # fmt: skip

    def without(self, gone: set[int]) -> onnx.ModelProto:
        """The graph without these channels (labels of `groups`): every weight they touch is smaller."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        values = dict(self.weights)
        for item in self.slices():
            values[item.weight] = np.compress(~np.isin(item.labels, list(gone)), values[item.weight], item.axis)
        for place, node in enumerate(model.graph.node):
            if node.op_type in ("Conv", "ConvTranspose"):
                _set_group(node, values[node.input[1]], self.weights[node.input[1]])
            elif node.op_type == "Reshape":
                self._reshape_again(node, place, gone, values)
        del model.graph.initializer[:]
        model.graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in values.items()
        )
        del model.graph.value_info[:]
        return model

    # --- labels ---

    def _fresh(self, count: int, block: str) -> Labels:
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        self._block.extend([block] * count)
        return np.arange(first, first + count)

    def _root(self, label: int) -> int:
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = self._parent[label]
        return label

    def _roots(self, labels: Labels) -> Labels:
        return np.array([self._root(int(label)) for label in labels], np.int64)

    def _join(self, first: Labels, second: Labels) -> Labels:
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            self._parent[self._root(other)] = self._root(one)
        return first

    def _joined_blocks(self) -> dict[str, str]:
        leader = {block: block for block in self._block}

        def first_of(block: str) -> str:
            while leader[block] != block:
                block = leader[block]
            return block

        for label in range(len(self._parent)):
            one, other = first_of(self._block[label]), first_of(self._block[self._root(label)])
            leader[one] = other
        return {block: first_of(block) for block in leader}

    def _hold(self, axes: Sequence[Labels | None]) -> None:
        for labels in axes:
            if labels is not None:
                self._held.update(labels.tolist())

    def _of(self, name: str) -> Axes:
        return self._axes.get(name) or [None] * len(self._shapes.get(name, ()))

    def _tie(self, weight: str, axis: int, labels: Labels | None, *, makes: bool = False) -> None:
        """The positions of a weight's axis go with these labels."""
        if labels is None:
            return
        known = self._slices.get((weight, axis))
        if known is not None:
            self._join(known.labels, labels)
        else:
            self._slices[(weight, axis)] = Slices(weight, axis, labels, makes)

    # --- operators ---

    def _visit(self, node: onnx.NodeProto) -> None:
        kind = node.op_type
        rules: dict[str, Callable[[onnx.NodeProto], Axes]] = {
            "Conv": self._conv, "ConvTranspose": self._conv_transpose, "Gemm": self._gemm, "MatMul": self._matmul,
            "BatchNormalization": self._batch_norm, "Concat": self._concat, "Transpose": self._transpose,
            "Reshape": self._reshape, "Flatten": self._reshape, "Squeeze": self._reshape, "Unsqueeze": self._reshape,
            "Softmax": self._softmax, "LogSoftmax": self._softmax, "Pad": self._pad, "Resize": self._resize,
        }  # fmt: skip
        if kind in _SAME:
            made = self._of(node.input[0])
        elif kind in _BROADCAST:
            made = self._broadcast(node)
        elif kind in _POOLS:
            axes = self._of(node.input[0])
            self._hold(axes[2:])
            made = [*axes[:2], *[None] * (len(axes) - 2)]
        elif kind in _REDUCTIONS:
            made = self._reduce(node)
        elif kind in rules:
            made = rules[kind](node)
        else:
            for name in node.input:
                self._hold(self._of(name))
            return
        self._axes[node.output[0]] = made

    def _conv(self, node: onnx.NodeProto) -> Axes:
        value, weight = self._of(node.input[0]), node.input[1]
        into, shape, groups = value[1], self.weights[weight].shape, _attribute(node, "group", 1)
        self._hold(value[2:])
        if groups == 1:
            self._tie(weight, 1, into)
            out: Labels | None = self._fresh(shape[0], node.name or node.output[0])
        elif shape[1] == 1 and into is not None and len(into) == groups:
            out = np.repeat(into, shape[0] // groups)
        else:
            self._hold([into])
            return [None] * len(value)
        self._tie(weight, 0, out, makes=True)
        if len(node.input) > 2 and node.input[2]:
            self._tie(node.input[2], 0, out, makes=True)
        return [None, out, *[None] * (len(value) - 2)]

    def _conv_transpose(self, node: onnx.NodeProto) -> Axes:
        value, weight = self._of(node.input[0]), node.input[1]
        self._hold(value[2:])
        if _attribute(node, "group", 1) != 1:
            self._hold(value)
            return [None] * len(value)
        self._tie(weight, 0, value[1])
        out = self._fresh(self.weights[weight].shape[1], node.name or node.output[0])
        self._tie(weight, 1, out, makes=True)
        if len(node.input) > 2 and node.input[2]:
            self._tie(node.input[2], 0, out, makes=True)
        return [None, out, *[None] * (len(value) - 2)]

    def _gemm(self, node: onnx.NodeProto) -> Axes:
        value, weight = self._of(node.input[0]), node.input[1]
        if weight not in self.weights or _attribute(node, "transA", 0):
            for name in node.input:
                self._hold(self._of(name))
            return [None, None]
        inner, outer = (1, 0) if _attribute(node, "transB", 0) else (0, 1)
        self._tie(weight, inner, value[1])
        out = self._fresh(self.weights[weight].shape[outer], node.name or node.output[0])
        self._tie(weight, outer, out, makes=True)
        if len(node.input) > 2 and node.input[2]:
            self._tie_constant(node.input[2], [None, out])
        return [value[0], out]

    def _matmul(self, node: onnx.NodeProto) -> Axes:
        value, weight = self._of(node.input[0]), node.input[1]
        if weight not in self.weights or self.weights[weight].ndim != 2 or node.input[0] in self.weights:
            for name in node.input:
                self._hold(self._of(name))
            return [None] * len(self._shapes[node.output[0]])
        self._tie(weight, 0, value[-1])
        out = self._fresh(self.weights[weight].shape[1], node.name or node.output[0])
        self._tie(weight, 1, out, makes=True)
        return [*value[:-1], out]

    def _batch_norm(self, node: onnx.NodeProto) -> Axes:
        value = self._of(node.input[0])
        for name in node.input[1:5]:
            self._tie(name, 0, value[1], makes=True)
        return value

    def _broadcast(self, node: onnx.NodeProto) -> Axes:
        rank = len(self._shapes[node.output[0]])
        made: Axes = []
        for axis in range(-rank, 0):
            seen = [self._of(name)[axis] for name in node.input if self._width(name, axis) > 1]
            labelled = [labels for labels in seen if labels is not None]
            plain = [
                name for name in node.input
                if name not in self.weights and self._width(name, axis) > 1 and self._of(name)[axis] is None
            ]  # fmt: skip
            narrow = [self._of(name)[axis] for name in node.input if self._width(name, axis) == 1]
            if not labelled or plain:
                self._hold([*labelled, *(narrow if plain or len(seen) else [])])
                made.append(narrow[0] if narrow and not seen else None)
                continue
            for other in labelled[1:]:
                self._join(labelled[0], other)
            self._hold(narrow)
            made.append(labelled[0])
        for name in node.input:
            if name in self.weights:
                self._tie_constant(name, made)
        return made

    def _tie_constant(self, name: str, axes: Axes) -> None:
        """A constant that is broadcast against a tensor with these axes."""
        shape = self.weights[name].shape
        for back in range(1, min(len(shape), len(axes)) + 1):
            labels = axes[-back]
            if labels is not None and shape[-back] == len(labels) > 1:
                self._tie(name, len(shape) - back, labels, makes=True)
            elif labels is not None and shape[-back] > 1:
                self._hold([labels])

    def _width(self, name: str, axis: int) -> int:
        shape = self._shapes.get(name, ())
        return shape[axis] if -axis <= len(shape) else 0

    def _concat(self, node: onnx.NodeProto) -> Axes:
        parts = [self._of(name) for name in node.input]
        joint = _attribute(node, "axis", 0) % len(parts[0])
        made: Axes = []
        for axis in range(len(parts[0])):
            seen = [part[axis] for part in parts]
            labelled = [labels for labels in seen if labels is not None]
            if not labelled:
                made.append(None)
            elif axis != joint and len(labelled) == len(seen):
                for other in labelled[1:]:
                    self._join(labelled[0], other)
                made.append(labelled[0])
            elif axis != joint:
                self._hold(labelled)
                made.append(None)
            else:
                made.append(np.concatenate([self._or_held(name, axis) for name in node.input]))
        return made

    def _or_held(self, name: str, axis: int) -> Labels:
        labels = self._of(name)[axis]
        if labels is None:
            labels = self._fresh(self._shapes[name][axis], f"held {name}")
            self._hold([labels])
        return labels

    def _transpose(self, node: onnx.NodeProto) -> Axes:
        value = self._of(node.input[0])
        order = _attribute(node, "perm", list(range(len(value)))[::-1])
        return [value[axis] for axis in order]

    def _reshape(self, node: onnx.NodeProto) -> Axes:
        """Axes that are kept keep their labels, axes of length one come and go, and one labelled axis may be merged
        with others; one that is split holds its channels fast."""
        value, before, after = (
            self._of(node.input[0]), self._shapes[node.input[0]], self._shapes[node.output[0]],
        )  # fmt: skip
        if node.op_type == "Reshape" and node.input[1] not in self.weights:
            self._hold(value)
            return [None] * len(after)
        made: Axes = [None] * len(after)
        for ins, outs in _segments(before, after):
            labelled = [axis for axis in ins if value[axis] is not None]
            wide_in, wide_out = ([a for a in ins if before[a] > 1], [a for a in outs if after[a] > 1])
            if len(labelled) == 1 and len(wide_out) == 1 and (before[labelled[0]] > 1):
                labels = value[labelled[0]]
                shape = [before[axis] for axis in wide_in]
                spread = np.broadcast_to(
                    np.asarray(labels).reshape([-1 if axis == labelled[0] else 1 for axis in wide_in]), shape
                )
                made[wide_out[0]] = spread.reshape(-1)
            else:
                self._hold([value[axis] for axis in labelled])
        return made

    def _reshape_again(
        self, node: onnx.NodeProto, place: int, gone: set[int], values: dict[str, NDArray[np.generic]]
    ) -> None:
        axes = self._axes.get(node.output[0], [])
        wanted = self.weights[node.input[1]].copy() if node.input[1] in self.weights else None
        if wanted is None or all(labels is None for labels in axes):
            return
        for axis, labels in enumerate(axes):
            if labels is not None and wanted[axis] > 0:
                wanted[axis] = int((~np.isin(self._roots(labels), list(gone))).sum())
        node.input[1] = f"pruned_shape_{place}"  # another reshape may share the old one
        values[node.input[1]] = wanted

    def _softmax(self, node: onnx.NodeProto) -> Axes:
        value = self._of(node.input[0])
        self._hold([value[_attribute(node, "axis", -1)]])
        return value

    def _reduce(self, node: onnx.NodeProto) -> Axes:
        value = self._of(node.input[0])
        given = _attribute(node, "axes", None)
        if given is None and len(node.input) > 1 and node.input[1] in self.weights:
            given = self.weights[node.input[1]].tolist()
        gone = {axis % len(value) for axis in (given if given is not None else range(len(value)))}
        self._hold([value[axis] for axis in gone])
        if _attribute(node, "keepdims", 1):
            return [None if axis in gone else labels for axis, labels in enumerate(value)]
        return [labels for axis, labels in enumerate(value) if axis not in gone]

    def _pad(self, node: onnx.NodeProto) -> Axes:
        value, before, after = (
            self._of(node.input[0]), self._shapes[node.input[0]], self._shapes[node.output[0]],
        )  # fmt: skip
        changed = [old != new for old, new in zip(before, after, strict=True)]
        self._hold([labels for labels, other in zip(value, changed, strict=True) if other])
        return [None if other else labels for labels, other in zip(value, changed, strict=True)]

    def _resize(self, node: onnx.NodeProto) -> Axes:
        made = self._pad(node)
        if len(node.input) > 3 and node.input[3]:  # absolute sizes name the number of channels, too
            self._hold(made)
            return [None] * len(made)
        return made


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which a reshape whose shape is computed says it as a constant, and every tensor has its shape.

    Raises Unsupported where a shape stays unknown.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    shapes, constants = _shapes(copy), {tensor.name for tensor in copy.graph.initializer}
    for place, node in enumerate(copy.graph.node):
        if node.op_type == "Reshape" and node.input[1] not in constants:
            shape = np.array([-1, *shapes[node.output[0]][1:]], np.int64)
            node.input[1] = f"settled_shape_{place}"
            copy.graph.initializer.append(numpy_helper.from_array(shape, node.input[1]))
    return copy


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Of every tensor, for a batch of one."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in [*copy.graph.input, *copy.graph.output]:
        dims = value.type.tensor_type.shape.dim
        if dims:
            dims[0].ClearField("dim_param")
            if value in copy.graph.input:
                dims[0].dim_value = 1
            else:
                dims[0].ClearField("dim_value")
    inferred = shape_inference.infer_shapes(copy, data_prop=True).graph
    found = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in [*inferred.value_info, *inferred.input, *inferred.output]:
        found[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    for node in model.graph.node:
        for name in node.output:
            if name and (name not in found or 0 in found[name]):
                raise Unsupported(
                    f"the shape of {name!r} (operator {node.op_type}) is not known before the model runs",
                    hint="export the model with a fixed input shape, free in the batch alone",
                )
    return found


def _segments(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The axes of both shapes in runs of equal size: what a reshape merges or splits."""
    found: list[tuple[list[int], list[int]]] = []
    first = second = 0
    while first < len(before) or second < len(after):
        ins, outs = [], []
        size_in = size_out = 1
        while True:
            if (size_in <= size_out and first < len(before)) or second >= len(after):
                if first >= len(before):
                    break
                ins.append(first)
                size_in *= before[first]
                first += 1
            else:
                outs.append(second)
                size_out *= after[second]
                second += 1
            if ins and outs and size_in == size_out:
                break
        found.append((ins, outs))
    return found


def _set_group(node: onnx.NodeProto, now: NDArray[np.generic], before: NDArray[np.generic]) -> None:
    groups = _attribute(node, "group", 1)
    if groups == 1 or now.shape == before.shape:
        return
    kept = now.shape[0] * groups // before.shape[0]
    for attribute in node.attribute:
        if attribute.name == "group":
            attribute.i = kept


def _attribute(node: onnx.NodeProto, name: str, otherwise: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return otherwise


def parameter_count(model: onnx.ModelProto) -> int:
    """Numbers in the weights of a graph."""
    return sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
