"""Moves scale, mean, channel order and layout into the graph, so that it takes the raw uint8 sample; and the
standardising of columns, so that it takes the raw float32 row.

Exact up to rounding. Scale, deviation and channel order go into the weights of the first Conv, Gemm or MatMul. The mean
goes into its bias where that is exact; a convolution that pads with zeros after the mean is taken off would see another
border, so there the mean stays as one subtraction in the graph.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeward.infer import Preprocessor
from edgeward.optimize.inspect import graph_inputs
from edgeward.optimize.passes.base import RAW_FLOAT, Context, Pass, Passed
from edgeward.records.candidate import Step
from edgeward.records.model import ColorOrder, Normalize, OneHot, Preprocess, Standardize, ToLayout

Array = NDArray[Any]


class Affine(NamedTuple):
    """model channel j = gain[j] × raw channel order[j] + offset[j]"""

    gain: Array
    offset: Array
    order: Array

    @property
    def is_identity(self) -> bool:
        return bool((self.gain == 1).all() and (self.offset == 0).all() and self.keeps_order)

    @property
    def keeps_order(self) -> bool:
        return bool((self.order == np.arange(len(self.order))).all())


class FoldPreprocess:
    """Option: pixels (arithmetic that stays at the head is done on pixels as they lie, before planes are made of them;
    OpenVINO then reads the frame as it is, where it would else move it twice)."""

    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:
        inputs = graph_inputs(model)
        if len(inputs) != 1 or not _takes_floats(inputs[0]):
            return Passed(model, context.preprocess)
        if _may_standardize(context.preprocess):
            return _standardizing(model, context.preprocess)
        kept, folded = split_steps(context.preprocess)
        if not _gives_bytes(context, kept):
            return Passed(model, context.preprocess)
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        channels = _channel_count(inputs[0], folded)
        pixels = bool(step.options.get("pixels", False))
        note = _fold(copy, affine_of(folded, channels), planes_first=_ends_planes_first(folded), pixels=pixels)
        return Passed(copy, kept, (note,))


def split_steps(steps: Preprocess) -> tuple[Preprocess, Preprocess]:
    """The steps that stay outside the graph, and those at the end that can move into it."""
    cut = len(steps)
    while cut and isinstance(steps[cut - 1], Normalize | ColorOrder | ToLayout):
        cut -= 1
    layouts = [index for index in range(cut, len(steps)) if isinstance(steps[index], ToLayout)]
    if layouts and layouts[-1] != len(steps) - 1:
        cut = layouts[-1] + 1  # a step after the change of layout works along another axis
    return steps[:cut], steps[cut:]


def affine_of(steps: Preprocess, channels: int) -> Affine:
    """What `steps` do to each channel."""
    gain, offset, order = np.ones(channels), np.zeros(channels), np.arange(channels)
    for step in steps:
        if isinstance(step, ColorOrder) and step.order == "BGR":
            gain, offset, order = gain[::-1], offset[::-1], order[::-1]
        if isinstance(step, Normalize):
            gain = gain * step.scale / np.asarray(step.std)
            offset = (offset * step.scale - np.asarray(step.mean)) / np.asarray(step.std)
    return Affine(gain, offset, order)


def _ends_planes_first(steps: Preprocess) -> bool:
    return any(isinstance(step, ToLayout) and step.layout == "NCHW" for step in steps)


def _takes_floats(node: onnx.ValueInfoProto) -> bool:
    return bool(node.type.tensor_type.elem_type == TensorProto.FLOAT)


def _gives_bytes(context: Context, kept: Preprocess) -> bool:
    """Whether raw samples are bytes, and still are after the steps that stay."""
    arrays = [*context.samples[0].values()] if context.samples else []
    prepare = Preprocessor(kept)
    return bool(arrays) and all(array.dtype == np.uint8 and prepare(array).dtype == np.uint8 for array in arrays)


def _may_standardize(steps: Preprocess) -> bool:
    """Where nothing can be missing, and no row is of strings."""
    if not steps or not isinstance(steps[-1], Standardize) or steps[-1].fill is not None:
        return False
    words = (isinstance(value, str) for step in steps if isinstance(step, OneHot) for value in step.values)
    return not any(words)


def _standardizing(model: onnx.ModelProto, steps: Preprocess) -> Passed:
    """The same subtraction and division at the head of the graph."""
    last = steps[-1]
    assert isinstance(last, Standardize)  # noqa: S101 - what _may_standardize has found
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    source = graph_inputs(copy)[0].name
    _rename_uses(graph, source, "edgeward_standard")
    for name, values in (("edgeward_mean", last.mean), ("edgeward_std", last.std)):
        graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
    graph.node.insert(0, helper.make_node("Sub", [source, "edgeward_mean"], ["edgeward_middled"]))
    graph.node.insert(1, helper.make_node("Div", ["edgeward_middled", "edgeward_std"], ["edgeward_standard"]))
    del graph.value_info[:]
    return Passed(copy, steps[:-1], ("takes raw columns, and standardises them itself",))


def _channel_count(node: onnx.ValueInfoProto, steps: Preprocess) -> int:
    dims = node.type.tensor_type.shape.dim
    axis = 1 if _ends_planes_first(steps) else len(dims) - 1
    stated = dims[axis].dim_value if dims[axis].HasField("dim_value") else 0
    longest = max((len(step.mean) for step in steps if isinstance(step, Normalize)), default=1)
    return stated or longest


def _fold(model: onnx.ModelProto, affine: Affine, *, planes_first: bool, pixels: bool) -> str:
    """Rewrites the head of the graph in place and says what it did."""
    graph = model.graph
    source = graph_inputs(model)[0]
    permutation = _to_raw_input(source, planes_first=planes_first)
    head = _sole_consumer(graph, source.name)
    entry = source.name
    if head is not None and head.op_type == "Transpose":
        own = next(list(attribute.ints) for attribute in head.attribute if attribute.name == "perm")
        permutation = [permutation[axis] for axis in own]
        entry = head.output[0]
        graph.node.remove(head)
        head = _sole_consumer(graph, entry)
    channel_axis = permutation.index(len(permutation) - 1)
    rest, done = _into_weights(graph, head, entry, affine, channel_axis)
    moved = permutation != sorted(permutation)
    row = _row_of(source) if pixels and moved and not rest.is_identity else None
    new: list[onnx.NodeProto] = []
    if row is not None:
        new.append(helper.make_node("Cast", [source.name], [RAW_FLOAT], to=TensorProto.FLOAT))
        last = _explicit(graph, new, rest, len(permutation) - 1, [row, len(rest.gain)])
        new.append(helper.make_node("Transpose", [last], ["edgeward_planes"], perm=permutation))
        last = "edgeward_planes"
    else:
        current = source.name
        if moved:
            new.append(helper.make_node("Transpose", [current], ["edgeward_raw"], perm=permutation))
            current = "edgeward_raw"
        new.append(helper.make_node("Cast", [current], [RAW_FLOAT], to=TensorProto.FLOAT))
        shape = [len(rest.gain) if index == channel_axis else 1 for index in range(1, len(permutation))]
        last = _explicit(graph, new, rest, channel_axis, shape)
    _rename_uses(graph, entry, last)
    for index, node in enumerate(new):
        graph.node.insert(index, node)
    del graph.value_info[:]
    left = "" if rest.is_identity else "; the rest stays as arithmetic at its head"
    return f"takes the raw uint8 sample: {done}{left}"


def _row_of(source: onnx.ValueInfoProto) -> int | None:
    """Pixels in a row of a raw image, None where that is free or the input no image."""
    dims = source.type.tensor_type.shape.dim
    return (dims[2].dim_value or None) if len(dims) == 4 else None


def _to_raw_input(source: onnx.ValueInfoProto, *, planes_first: bool) -> list[int]:
    """Makes the graph's input the raw uint8 sample; returns the permutation from it to what the graph took."""
    dims = source.type.tensor_type.shape.dim
    source.type.tensor_type.elem_type = TensorProto.UINT8
    axes = list(range(len(dims)))
    if not planes_first or len(dims) != 4:
        return axes
    old = [onnx.TensorShapeProto.Dimension() for _ in dims]
    for copy, dim in zip(old, dims, strict=True):
        copy.CopyFrom(dim)
    del dims[:]
    dims.extend([old[0], old[2], old[3], old[1]])
    return [0, 3, 1, 2]


def _into_weights(
    graph: onnx.GraphProto, head: onnx.NodeProto | None, entry: str, affine: Affine, channel_axis: int
) -> tuple[Affine, str]:
    """Folds what it can into the weights of `head`; returns what is left to do before it, and what was done."""
    if affine.is_identity:
        return affine, "its values are what the model takes"
    constants = {tensor.name: tensor for tensor in graph.initializer}
    if head is None or head.input[0] != entry or len(head.input) < 2 or head.input[1] not in constants:
        return affine, "no weights stand first"
    if head.op_type == "Conv" and channel_axis == 1 and _attribute(head, "group", 1) == 1:
        return _into_conv(graph, head, constants, affine)
    if head.op_type == "Gemm" and not _attribute(head, "transA", 0) and channel_axis == 1 and len(head.input) > 2:
        return _into_gemm(graph, head, constants, affine)
    if head.op_type == "MatMul" and numpy_helper.to_array(constants[head.input[1]]).ndim == 2:
        return _into_matmul(graph, head, constants, affine)
    return affine, f"{head.op_type} takes it"


def _into_conv(
    graph: onnx.GraphProto, head: onnx.NodeProto, constants: dict[str, TensorProto], affine: Affine
) -> tuple[Affine, str]:
    weight = numpy_helper.to_array(constants[head.input[1]]).astype(np.float64)
    if weight.shape[1] != len(affine.gain):
        return affine, "Conv takes it"
    shape = (1, -1, *([1] * (weight.ndim - 2)))
    raw = _scattered(weight * affine.gain.reshape(shape), affine.order, axis=1)
    _replace_input(graph, head, 1, raw)
    if not affine.offset.any():
        return _done(affine), "scale and channel order went into the first Conv"
    bias_known = len(head.input) < 3 or not head.input[2] or head.input[2] in constants
    if _pads_with_zeros(head) or not bias_known:
        return _mean_left(
            affine
        ), "scale and channel order went into the first Conv, whose zero padding keeps the mean out"
    shift = (weight * affine.offset.reshape(shape)).sum(axis=tuple(range(1, weight.ndim)))
    old = numpy_helper.to_array(constants[head.input[2]]) if len(head.input) > 2 and head.input[2] else 0.0
    _replace_input(graph, head, 2, old + shift)
    return _done(affine), "scale, mean and channel order went into the first Conv"


def _into_gemm(
    graph: onnx.GraphProto, head: onnx.NodeProto, constants: dict[str, TensorProto], affine: Affine
) -> tuple[Affine, str]:
    weight = numpy_helper.to_array(constants[head.input[1]]).astype(np.float64)
    transposed = bool(_attribute(head, "transB", 0))
    rows = weight.T if transposed else weight
    if head.input[2] not in constants or rows.shape[0] != len(affine.gain):
        return affine, "Gemm takes it"
    alpha, beta = _attribute(head, "alpha", 1.0), _attribute(head, "beta", 1.0)
    if beta == 0:
        return affine, "Gemm takes it"
    raw = _scattered(rows * affine.gain[:, None], affine.order, axis=0)
    _replace_input(graph, head, 1, raw.T if transposed else raw)
    old = numpy_helper.to_array(constants[head.input[2]])
    _replace_input(graph, head, 2, old + alpha / beta * (affine.offset @ rows))
    return _done(affine), "scale and mean went into the first Gemm"


def _into_matmul(
    graph: onnx.GraphProto, head: onnx.NodeProto, constants: dict[str, TensorProto], affine: Affine
) -> tuple[Affine, str]:
    weight = numpy_helper.to_array(constants[head.input[1]]).astype(np.float64)
    if weight.shape[0] != len(affine.gain):
        return affine, "MatMul takes it"
    _replace_input(graph, head, 1, _scattered(weight * affine.gain[:, None], affine.order, axis=0))
    follower = _sole_consumer(graph, head.output[0])
    bias = None if follower is None or follower.op_type != "Add" else follower.input[1]
    if affine.offset.any() and (follower is None or bias not in constants):
        return _mean_left(affine), "scale went into the first MatMul"
    if affine.offset.any() and follower is not None and bias is not None:
        _replace_input(graph, follower, 1, numpy_helper.to_array(constants[bias]) + affine.offset @ weight)
    return _done(affine), "scale and mean went into the first MatMul"


def _done(affine: Affine) -> Affine:
    count = len(affine.gain)
    return Affine(np.ones(count), np.zeros(count), np.arange(count))


def _mean_left(affine: Affine) -> Affine:
    """gain × raw + offset = gain × (raw + offset / gain): the bracket, in raw channel order."""
    shift = _scattered(affine.offset / affine.gain, affine.order, axis=0)
    return Affine(np.ones(len(shift)), shift, np.arange(len(shift)))


def _scattered(values: Array, order: Array, *, axis: int) -> Array:
    """Values given per model channel, put where their raw channel stands."""
    return np.take(values, np.argsort(order), axis=axis)


def _explicit(graph: onnx.GraphProto, new: list[onnx.NodeProto], rest: Affine, axis: int, shape: list[int]) -> str:
    """Arithmetic for what no weights took, by constants of this shape, which may repeat a pixel's values along a row:
    runtimes work through whole rows faster than through three values at a time. Returns what carries the answer on.
    """
    last = RAW_FLOAT
    if not rest.keeps_order:
        graph.initializer.append(numpy_helper.from_array(rest.order.astype(np.int64), "edgeward_order"))
        new.append(helper.make_node("Gather", [last, "edgeward_order"], ["edgeward_ordered"], axis=axis))
        last = "edgeward_ordered"
    for operator, name, values, idle in (("Mul", "gain", rest.gain, 1.0), ("Add", "offset", rest.offset, 0.0)):
        if (values == idle).all():
            continue
        repeated = np.tile(values.astype(np.float32), int(np.prod(shape)) // len(values))
        constant = repeated.reshape(shape)
        graph.initializer.append(numpy_helper.from_array(constant, f"edgeward_{name}"))
        new.append(helper.make_node(operator, [last, f"edgeward_{name}"], [f"edgeward_after_{name}"]))
        last = f"edgeward_after_{name}"
    return last


def _replace_input(graph: onnx.GraphProto, node: onnx.NodeProto, index: int, values: Array) -> None:
    """Gives `node` an initialiser of its own, so that other users of the old one keep theirs."""
    name = f"edgeward_{node.op_type.lower()}_{index}"
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
    while len(node.input) <= index:
        node.input.append("")
    node.input[index] = name


def _rename_uses(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def _sole_consumer(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    users = [node for node in graph.node if name in node.input]
    is_output = any(output.name == name for output in graph.output)
    return users[0] if len(users) == 1 and not is_output else None


def _pads_with_zeros(conv: onnx.NodeProto) -> bool:
    automatic = _attribute(conv, "auto_pad", b"NOTSET")
    return automatic in (b"SAME_UPPER", b"SAME_LOWER") or any(_attribute(conv, "pads", [0]))


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


plugin: Pass = FoldPreprocess()
