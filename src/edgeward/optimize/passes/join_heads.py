"""Heads that read the same values become one convolution, and their answers are parted where they lie side by side.

At each place of an image a detector answers with a box and with scores: small convolutions over the same channels, laid
flat, and joined over the scales of its pyramid. One convolution with the outputs of both makes the same sums. What is
gained is that there are fewer operators: a runtime needs a few microseconds for each, whatever it computes, and more
where other code ran since the last frame. (Networks are rewritten so elsewhere too: "horizontal fusion", Jia et al.,
"TASO", SOSP 2019.)

Boxes and scores have different ranges, and both are one value here: it stays in float, which takes a runtime whose
integer kernels can give floats.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, shape_inference

from edgeward.optimize.named_layers import HEAVY
from edgeward.optimize.passes.base import STAYS_FLOAT, Context, DoesNotApply, Pass, Passed
from edgeward.optimize.wiring import Wiring, attribute
from edgeward.records.candidate import Step

_LEAST_OPSET = 13
"""From there on a Split is told its sizes by an input."""
_CHANNELS_LAST = [0, 2, 3, 1]


class Branch(NamedTuple):
    """What makes one input of a join: a convolution, perhaps a Transpose that moves its channels behind the places,
    and the Reshape that lays the places flat."""

    conv: onnx.NodeProto
    transpose: onnx.NodeProto | None
    reshape: onnx.NodeProto
    kernel: tuple[int, ...]

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        return [self.conv, *(() if self.transpose is None else (self.transpose,)), self.reshape]

    @property
    def channel_axis(self) -> int:
        """Of the laid out value, which has three axes: samples, and channels and places in some order."""
        return 1 if self.transpose is None else 2


class Join(NamedTuple):
    """A Concat over the places of several branches."""

    node: onnx.NodeProto
    branches: tuple[Branch, ...]

    @property
    def reads(self) -> tuple[object, ...]:
        """Alike for joins that can become one: what is convolved in which way, and how it is laid out."""
        return tuple(
            (branch.conv.input[0], branch.channel_axis, branch.kernel, *_attributes(branch.conv))
            for branch in self.branches
        )


Constants = dict[tuple[str, ...], list[str]]
"""Weights and biases of united convolutions by the names of those that went into them: scales may share theirs."""


class JoinHeads:
    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:  # noqa: ARG002 - no options
        opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
        if opset < _LEAST_OPSET:
            raise DoesNotApply(f"the model has opset {opset}: wanted {_LEAST_OPSET} or later")
        if any(entry.HasField("g") or entry.graphs for node in model.graph.node for entry in node.attribute):
            raise DoesNotApply("the graph has branches or loops, which may read what heads make")
        wiring = Wiring(model)
        groups = list(_groups(wiring))
        if not groups:
            raise DoesNotApply("no two heads read the same values")
        constants: Constants = {}
        for joins in groups:
            _unite(wiring, joins, constants)
        del wiring.graph.value_info[:]
        before = sum(len(join.branches) for joins in groups for join in joins)
        after = sum(len(joins[0].branches) for joins in groups)
        note = f"{before} convolutions of heads became {after}: the same values are read by one"
        return Passed(wiring.model, context.preprocess, (note,))


def _groups(wiring: Wiring) -> Iterator[list[Join]]:
    """Joins that can become one, in the order of the graph."""
    shapes = _shapes(wiring.model)
    found: dict[tuple[object, ...], list[Join]] = {}
    for node in wiring.graph.node:
        if node.op_type == "Concat" and not _leads_to_layer(wiring, node):
            branches = [_branch(wiring, name, shapes) for name in node.input]
            join = Join(node, tuple(branch for branch in branches if branch is not None))
            if len(join.branches) == len(node.input) and _joins_places(join):
                found.setdefault(join.reads, []).append(join)
    yield from (joins for joins in found.values() if len(joins) > 1)


def _attributes(conv: onnx.NodeProto) -> list[bytes]:
    return sorted(entry.SerializeToString() for entry in conv.attribute)


def _joins_places(join: Join) -> bool:
    axes = {branch.channel_axis for branch in join.branches}
    return len(axes) == 1 and attribute(join.node, "axis", 0) % 3 == 3 - axes.pop()


def _leads_to_layer(wiring: Wiring, join: onnx.NodeProto) -> bool:
    """Whether something with products stands behind it: what is read there has a scale of its own."""
    waiting, seen = [join], set[str]()
    while waiting:
        for name in filter(None, waiting.pop().output):
            for reader in wiring.readers.get(name, []):
                if reader.op_type in HEAVY:
                    return True
                if reader.output[0] not in seen:
                    seen.add(reader.output[0])
                    waiting.append(reader)
    return False


def _branch(wiring: Wiring, value: str, shapes: dict[str, list[int]]) -> Branch | None:
    reshape = _alone(wiring, value, "Reshape")
    if reshape is None:
        return None
    transpose = _alone(wiring, reshape.input[0], "Transpose")
    if transpose is not None and attribute(transpose, "perm", []) != _CHANNELS_LAST:
        return None
    conv = _alone(wiring, reshape.input[0] if transpose is None else transpose.input[0], "Conv")
    if conv is None or attribute(conv, "group", 1) != 1:
        return None
    weight, bias = wiring.constant(conv, 1), wiring.constant(conv, 2)
    if weight is None or weight.dtype != np.float32 or (bias is None and not wiring.is_left_out(conv, 2)):
        return None
    branch = Branch(conv, transpose, reshape, weight.shape[2:])
    return branch if _lays_places_flat(wiring, branch, shapes.get(conv.output[0], [])) else None


def _alone(wiring: Wiring, value: str, kind: str) -> onnx.NodeProto | None:
    """What makes the value, where that is of this kind and only one operator reads it."""
    node = wiring.makers.get(value)
    return node if node is not None and node.op_type == kind and wiring.sole_reader(value) is not None else None


def _lays_places_flat(wiring: Wiring, branch: Branch, shape: Sequence[int]) -> bool:
    """Whether samples and channels stay apart, as far as shapes are known (0 where not)."""
    target = wiring.constant(branch.reshape, 1)
    if target is None or target.size != 3 or len(shape) != 4:
        return False
    if attribute(branch.reshape, "allowzero", 0) and 0 in target:
        return False
    samples, channels, places = shape[0], shape[1], shape[2] * shape[3]
    asked = {"samples": target[0], "channels": target[branch.channel_axis], "places": target[3 - branch.channel_axis]}
    if channels < 1 or asked["channels"] != channels:
        return False
    keeps_samples = asked["samples"] == 0 or (samples > 0 and asked["samples"] == samples)
    keeps_places = places > 0 and asked["places"] == places
    return (keeps_samples and asked["places"] in (-1, places)) or (keeps_places and asked["samples"] == -1)


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """The shape of every value, 0 for what is free; none where they cannot be inferred."""
    inferred = onnx.ModelProto()
    with suppress(shape_inference.InferenceError, ValueError):
        inferred = shape_inference.infer_shapes(model)
    return {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in inferred.graph.value_info
    }


def _unite(wiring: Wiring, joins: Sequence[Join], constants: Constants) -> None:
    axis = joins[0].branches[0].channel_axis
    new, laid = list[onnx.NodeProto](), list[str]()
    for branches in zip(*(join.branches for join in joins), strict=True):
        new += _united(wiring, branches, constants)
        laid.append(new[-1].output[0])
    counts = [len(wiring.constant(join.branches[0].conv, 1)) for join in joins]  # type: ignore[arg-type]
    joined = wiring.free_name(f"{joins[0].node.output[0]}_joined")
    sizes = wiring.add_constant(f"{joined}_sizes", np.array(counts, np.int64))
    parts = [join.node.output[0] for join in joins]
    # Channels of a place lie side by side, as integer kernels write them: the scales are joined without a copy.
    by_place = joined if axis == 2 else wiring.free_name(f"{joined}_by_place")
    new.append(helper.make_node("Concat", laid, [by_place], axis=1))
    if axis == 1:
        new.append(helper.make_node("Transpose", [by_place], [joined], perm=[0, 2, 1]))
    new.append(helper.make_node("Split", [joined, sizes], parts, axis=axis))
    for node in new:
        if node.op_type not in HEAVY:
            node.name = STAYS_FLOAT + node.output[0]
    old = [node for join in joins for node in (join.node, *(n for branch in join.branches for n in branch.nodes))]
    place = list(wiring.graph.node).index(joins[0].node)
    for number, node in enumerate(new):
        wiring.insert(place + number, node)
    wiring.remove(old)
    for name in {name for node in old for name in node.input}:
        wiring.drop_unread(name)


def _united(wiring: Wiring, branches: Sequence[Branch], constants: Constants) -> Iterator[onnx.NodeProto]:
    """One convolution with the outputs of all, in their order, laid out as samples × places × channels."""
    first = branches[0]
    weights = [np.asarray(wiring.constant(branch.conv, 1)) for branch in branches]
    biases = [wiring.constant(branch.conv, 2) for branch in branches]
    bias = np.concatenate([np.zeros(len(w), w.dtype) if b is None else b for w, b in zip(weights, biases, strict=True)])
    name = "+".join(branch.conv.name or branch.conv.output[0] for branch in branches)
    value = wiring.free_name(f"{first.conv.output[0]}_united")
    key = tuple("\n".join(branch.conv.input[1:]) for branch in branches)
    if key not in constants:
        parts = (("weight", np.concatenate(weights)), ("bias", bias))
        constants[key] = [wiring.add_constant(f"{value}_{part}", values) for part, values in parts]
    conv = helper.make_node("Conv", [first.conv.input[0], *constants[key]], [value], name=name)
    conv.attribute.extend(first.conv.attribute)
    yield conv
    yield helper.make_node("Transpose", [value], [f"{value}_moved"], perm=_CHANNELS_LAST)
    samples, places = np.asarray(wiring.constant(first.reshape, 1))[[0, 3 - first.channel_axis]]
    shape = wiring.add_constant(f"{value}_shape", np.array([samples, places, len(bias)]))
    yield helper.make_node("Reshape", [f"{value}_moved", shape], [f"{value}_flat"])


plugin: Pass = JoinHeads()
