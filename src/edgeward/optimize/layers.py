"""Model → its layers: each distinct shape as a model of one layer, in float and in int8, for a micro-benchmark.

Scales are made up: what an integer kernel costs does not depend on them.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

from edgeward.measure.work import multiply_accumulates
from edgeward.optimize.inspect import graph_inputs
from edgeward.optimize.named_layers import HEAVY

Activations = Literal["uint8", "int8"]
_FREE = frozenset({
    "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Shape", "Constant", "Cast",
    "QuantizeLinear", "DequantizeLinear",
})  # fmt: skip
"""What costs next to nothing in either precision, or is no layer of a float model."""

_IN_INT8 = frozenset({
    *HEAVY, "Add", "Mul", "AveragePool", "GlobalAveragePool", "MaxPool", "Concat", "Relu", "Clip", "LeakyRelu", "Pad",
    "Resize", "Transpose", "Split",
})  # fmt: skip
"""What our quantiser quantises; the others stay in float between two conversions."""

_ACROSS_PIXELS = frozenset({
    "Conv", "ConvTranspose", "AveragePool", "GlobalAveragePool", "MaxPool", "Concat", "Resize", "Pad",
})  # fmt: skip
_LEADS = frozenset({"Conv", "Gemm", "Add"})
_ACTIVATIONS = ("Relu", "Clip")
_SCALE = 0.05
_SCALE_BEHIND_ACTIVATION = 0.02
"""Its 255 steps end below 6, so that rounding does the work of Relu and Relu6, as it does in calibrated models."""
_MOST_WEIGHTS = 1 << 26
"""A layer with more weights than this is not tried: its two models would take half a gigabyte."""


class LayerShape(NamedTuple):
    """Layers that do the same work: one of them as a model in float, and how to make it in int8.

    `names` are the nodes' own, in graph order. `moved_bytes` are weights, inputs and outputs in float.
    """

    key: str
    names: tuple[str, ...]
    op: str
    is_depthwise: bool
    stays_float: bool
    macs: int
    moved_bytes: int
    weight_bytes: int
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    float_model: onnx.ModelProto


def layer_shapes(model: onnx.ModelProto) -> tuple[LayerShape, ...]:
    """The distinct layers of a simplified float model with names, but for those whose shapes are not known."""
    reading = _Reading(model)
    found: dict[str, LayerShape] = {}
    for node in model.graph.node:
        if node.output[0] in reading.absorbed or (made := reading.layer(node)) is None:
            continue
        before = found.get(made.key)
        found[made.key] = made if before is None else before._replace(names=(*before.names, *made.names))
    return tuple(found.values())


class _Reading:
    """A graph with its shapes, its constants and who reads what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        fixed = _with_batch_one(model)
        with suppress(shape_inference.InferenceError, ValueError):
            fixed = shape_inference.infer_shapes(fixed, data_prop=True)
        graph = fixed.graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.types: dict[str, tuple[int, tuple[int, ...]]] = {}
        for value in (*graph.value_info, *graph.input, *graph.output):
            dims = value.type.tensor_type.shape.dim
            if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
                self.types[value.name] = (value.type.tensor_type.elem_type, tuple(dim.dim_value for dim in dims))
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {output.name for output in model.graph.output}
        self._makers = {name: place for place, node in enumerate(model.graph.node) for name in node.output}
        self._behind = {node.output[0]: self._joined(node) for node in model.graph.node}
        self.absorbed = {later.output[0] for chain in self._behind.values() for later in chain}
        for name in self.absorbed:
            self._behind.pop(name, None)

    def _joined(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """What every runtime makes part of the layer before it: the addition of a branch, then a Relu or Clip."""
        chain = list[onnx.NodeProto]()
        if node.op_type not in _LEADS:
            return chain
        user = self._sole_reader(node)
        if user is not None and user.op_type == "Add" and node.op_type == "Conv" and self._is_last_of(node, user):
            chain.append(user)
            user = self._sole_reader(user)
        if user is not None and user.op_type in _ACTIVATIONS and all(n in self.constants for n in user.input[1:] if n):
            chain.append(user)
        return chain

    def _sole_reader(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        readers = self._readers.get(node.output[0], [])
        return readers[0] if len(readers) == 1 and node.output[0] not in self._outputs else None

    def _is_last_of(self, node: onnx.NodeProto, add: onnx.NodeProto) -> bool:
        """Whether all else that `add` takes is there before `node` is computed."""
        mine = self._makers[node.output[0]]
        others = [name for name in add.input if name != node.output[0]]
        return len(others) == 1 and others[0] not in self.constants and self._makers.get(others[0], -1) < mine

    def layer(self, node: onnx.NodeProto) -> LayerShape | None:
        """The node with the activation behind it as a model of its own; None for what has no cost or no known shape."""
        if node.op_type in _FREE or node.domain not in ("", "ai.onnx") or _holds_graph(node):
            return None
        nodes = [node, *self._behind.get(node.output[0], ())]
        inner = {name for each in nodes[:-1] for name in each.output}
        read = [name for each in nodes for name in each.input if name and name not in inner]
        fed = list(dict.fromkeys(name for name in read if name not in self.constants))
        outputs = [name for name in nodes[-1].output if name]
        if not fed or any(name not in self.types for name in (*fed, *outputs)):
            return None
        if any(self.types[name][0] != TensorProto.FLOAT for name in (fed[0], *outputs)):
            return None
        weights = [self.constants[name] for name in dict.fromkeys(read) if name in self.constants]
        if sum(math.prod(tensor.dims) for tensor in weights) > _MOST_WEIGHTS:
            return None
        return self._made(node, nodes, fed, outputs, weights)

    def _made(
        self,
        node: onnx.NodeProto,
        nodes: list[onnx.NodeProto],
        fed: list[str],
        outputs: list[str],
        weights: list[TensorProto],
    ) -> LayerShape:
        key, copies, names = _keyed(nodes, fed, outputs)
        inputs = tuple(self.types[name][1] for name in fed)
        results = tuple(self.types[name][1] for name in outputs)
        graph = helper.make_graph(
            copies,
            "layer",
            [helper.make_tensor_value_info(names[name], *self.types[name]) for name in fed],
            [helper.make_tensor_value_info(names[name], *self.types[name]) for name in outputs],
            [_renamed(tensor, names[tensor.name]) for tensor in weights],
        )
        model = helper.make_model(graph, opset_imports=list(self._model.opset_import), ir_version=8)
        weight_bytes = sum(4 * math.prod(tensor.dims) for tensor in weights if tensor.data_type == TensorProto.FLOAT)
        shapes = (inputs, results, [(tensor.data_type, tuple(tensor.dims)) for tensor in weights])
        # The work hangs on the values of limits, paddings and sizes, not on those of weights.
        of_weights = node.input if node.op_type in HEAVY else ()
        small = [numpy_helper.to_array(w).tolist() for w in weights if w.name not in of_weights and len(w.dims) <= 1]
        digest = hashlib.sha256(repr((key, shapes, small)).encode()).hexdigest()
        return LayerShape(
            key=digest, names=(node.name,), op=node.op_type,
            is_depthwise=_is_depthwise(node, weights, inputs), stays_float=node.op_type not in _IN_INT8,
            macs=_macs(node, weights, inputs, results),
            moved_bytes=weight_bytes + 4 * sum(math.prod(shape) for shape in (*inputs, *results)),
            weight_bytes=weight_bytes, input_shapes=inputs, output_shapes=results, float_model=model,
        )  # fmt: skip


def _keyed(
    nodes: list[onnx.NodeProto], fed: list[str], outputs: list[str]
) -> tuple[bytes, list[onnx.NodeProto], dict[str, str]]:
    """The nodes with names of their own, so that equal layers have equal bytes; and the names they got."""
    names = {name: f"x{place}" for place, name in enumerate(fed)}
    names |= {name: f"y{place}" for place, name in enumerate(outputs)}
    copies = list[onnx.NodeProto]()
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name, copy.doc_string = f"layer{len(copies)}", ""
        for side in (copy.input, copy.output):
            for place, name in enumerate(side):
                if name:
                    side[place] = names.setdefault(name, f"t{len(names)}")
        copies.append(copy)
    return b"".join(copy.SerializeToString(deterministic=True) for copy in copies), copies, names


def _renamed(tensor: TensorProto, name: str) -> TensorProto:
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def _holds_graph(node: onnx.NodeProto) -> bool:
    return any(item.HasField("g") or item.graphs for item in node.attribute)


def _is_depthwise(node: onnx.NodeProto, weights: list[TensorProto], inputs: tuple[tuple[int, ...], ...]) -> bool:
    """One filter for each channel."""
    group = next((item.i for item in node.attribute if item.name == "group"), 1)
    return node.op_type == "Conv" and bool(weights) and group > 1 and len(inputs[0]) > 1 and group == inputs[0][1]


def _macs(
    node: onnx.NodeProto,
    weights: list[TensorProto],
    inputs: tuple[tuple[int, ...], ...],
    outputs: tuple[tuple[int, ...], ...],
) -> int:
    """Multiply-accumulates of one inference."""
    if node.op_type not in HEAVY or not inputs[0] or not outputs[0]:
        return 0
    weight = tuple(weights[0].dims) if weights else inputs[-1]
    turned = any(item.name == "transA" and item.i for item in node.attribute)
    return multiply_accumulates(node.op_type, inputs[0], weight, outputs[0], turned=turned)


def _with_batch_one(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in graph_inputs(copy):
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = 1
    for value in copy.graph.output:  # inferred anew; a stated free batch would stay
        value.type.tensor_type.ClearField("shape")
    return copy


def in_int8(shape: LayerShape, activations: Activations, *, reduced: bool) -> onnx.ModelProto:
    """The layer as a quantised model has it: integer tensors in and out, conversions where it stays in float.

    `reduced`: weights of seven bits.
    """
    source = shape.float_model.graph
    kind = TensorProto.UINT8 if activations == "uint8" else TensorProto.INT8
    lowest, middle = (0, 128) if activations == "uint8" else (-128, 0)
    is_activated = source.node[-1].op_type in _ACTIVATIONS
    constants = {
        "scale": np.array(_SCALE, np.float32),
        "zero": np.array(middle, activations),
        "scale_out": np.array(_SCALE_BEHIND_ACTIVATION if is_activated else _SCALE, np.float32),
        "zero_out": np.array(lowest if is_activated else middle, activations),
    }
    made = _Int8([numpy_helper.from_array(value, name) for name, value in constants.items()], reduced=reduced)
    weighted = source.node[0].op_type in HEAVY
    inputs, outputs = list[onnx.ValueInfoProto](), list[onnx.ValueInfoProto]()
    for value in source.input:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        is_float = value.type.tensor_type.elem_type == TensorProto.FLOAT
        inputs.append(helper.make_tensor_value_info(f"q_{value.name}", kind, dims) if is_float else value)
        if is_float:
            made.before.append(_node("DequantizeLinear", [f"q_{value.name}", "scale", "zero"], value.name))
    for value in source.output:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        outputs.append(helper.make_tensor_value_info(f"q_{value.name}", kind, dims))
        made.after.append(_node("QuantizeLinear", [value.name, "scale_out", "zero_out"], f"q_{value.name}"))
    for tensor in source.initializer:
        if weighted and tensor.data_type == TensorProto.FLOAT and tensor.name in source.node[0].input:
            made.weight(source.node[0], tensor)
        else:
            made.constants.append(tensor)
    nodes = [*made.before, *_rounded_between(source.node), *made.after]
    graph = helper.make_graph(nodes, "layer", inputs, outputs, made.constants)
    return helper.make_model(graph, opset_imports=list(shape.float_model.opset_import), ir_version=8)


def _rounded_between(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes of a layer with a rounding before an addition, as quantisers leave it."""
    for node, later in zip(nodes, [*nodes[1:], None], strict=True):
        if later is None or later.op_type != "Add":
            yield node
            continue
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        name, copy.output[0] = node.output[0], "unrounded"
        yield copy
        yield helper.make_node("QuantizeLinear", ["unrounded", "scale", "zero"], ["rounded"], name="round")
        yield helper.make_node("DequantizeLinear", ["rounded", "scale", "zero"], [name], name="back")


def channels_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """The layer as it is between others in a runtime that keeps channels last: fed and read in that order.

    Only layers that care for it change.
    """
    graph = model.graph
    if not any(node.op_type in _ACROSS_PIXELS for node in graph.node):
        return model
    turned = onnx.ModelProto()
    turned.CopyFrom(model)
    before, after = list[onnx.NodeProto](), list[onnx.NodeProto]()
    for value in turned.graph.input:
        before += _turned(value, to_last=False)
    for value in turned.graph.output:
        after += _turned(value, to_last=True)
    nodes = [*before, *turned.graph.node, *after]
    del turned.graph.node[:]
    turned.graph.node.extend(nodes)
    return turned


def between_floats(model: onnx.ModelProto) -> onnx.ModelProto:
    """An int8 layer that takes and gives floats: OpenVINO knows a rounded value only by both conversions."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    before, after = list[onnx.NodeProto](), list[onnx.NodeProto]()
    for value in made.graph.input:
        if value.name.startswith("q_"):
            before.append(_node("QuantizeLinear", [f"f_{value.name}", "scale", "zero"], value.name))
            _as_float(value)
    for value in made.graph.output:
        after.append(_node("DequantizeLinear", [value.name, "scale_out", "zero_out"], f"f_{value.name}"))
        _as_float(value)
    nodes = [*before, *made.graph.node, *after]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def _as_float(value: onnx.ValueInfoProto) -> None:
    value.name = f"f_{value.name}"
    value.type.tensor_type.elem_type = TensorProto.FLOAT


def pooled_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """An int8 MaxPool over pixels as ONNX Runtime has it behind an integer convolution: channels last, in a kernel of
    its own. Alone it would take one that is a hundred times slower."""
    node = next((node for node in model.graph.node if node.op_type == "MaxPool"), None)
    sides = (model.graph.input[0], model.graph.output[0])
    if node is None or len(node.output) > 1 or any(len(v.type.tensor_type.shape.dim) != 4 for v in sides):
        return model
    kind = model.graph.input[0].type.tensor_type.elem_type
    dims = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in sides]
    last = [[first, *rest, channels] for first, channels, *rest in dims]
    pool = helper.make_node("NhwcMaxPool", ["x"], ["y"], name="layer0", domain="com.microsoft")
    pool.attribute.extend(item for item in node.attribute if item.name not in ("storage_order", "count_include_pad"))
    ends = [helper.make_tensor_value_info(name, kind, shape) for name, shape in zip("xy", last, strict=True)]
    graph = helper.make_graph([pool], "layer", ends[:1], ends[1:])
    opsets = [*model.opset_import, helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


BRANCH, TAIL = "edgeward_branch", "edgeward_tail"


def with_tail(model: onnx.ModelProto) -> onnx.ModelProto:
    """A layer over pixels with a pooling (named TAIL) behind it: what comes out of the layer stays in the layout and
    the precision that it has inside a model, and hardly anything is turned at the end. Channels go in last."""
    graph = model.graph
    value = graph.output[0]
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    if len(graph.output) > 1 or len(dims) != 4 or not any(node.op_type in _ACROSS_PIXELS for node in graph.node):
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.graph.node.append(helper.make_node("GlobalAveragePool", [value.name], [TAIL], name=TAIL))
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info(TAIL, TensorProto.FLOAT, [*dims[:2], 1, 1]))
    turned = [node for value in made.graph.input for node in _turned(value, to_last=False)]
    nodes = [*turned, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def with_branch(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float layer that adds a branch, which comes by way of a convolution's neighbour (named BRANCH) as in a whole
    model: ONNX Runtime makes the addition part of the convolution only then."""
    add = next((node for node in model.graph.node[1:] if node.op_type == "Add"), None)
    if add is None:
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    add = next(node for node in made.graph.node[1:] if node.op_type == "Add")
    fed = {value.name for value in made.graph.input}
    place = next((index for index, name in enumerate(add.input) if name in fed), None)
    if place is None:
        return model
    pool = helper.make_node("MaxPool", [add.input[place]], [BRANCH], kernel_shape=[1, 1], name=BRANCH)
    rank = next(len(v.type.tensor_type.shape.dim) for v in made.graph.input if v.name == add.input[place])
    if rank != 4:
        return model
    add.input[place] = BRANCH
    made.graph.node.insert(0, pool)
    return made


def _turned(value: onnx.ValueInfoProto, *, to_last: bool) -> list[onnx.NodeProto]:
    """Takes an input or output with channels last; the Transpose that stands between it and the layer."""
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    if len(dims) < 3:
        return []
    inner, outer = value.name, f"{value.name}_last"
    dims = [dims[0], *dims[2:], dims[1]]
    value.CopyFrom(helper.make_tensor_value_info(outer, value.type.tensor_type.elem_type, dims))
    rank = len(dims)
    if to_last:
        return [helper.make_node("Transpose", [inner], [outer], perm=[0, *range(2, rank), 1], name=outer)]
    return [helper.make_node("Transpose", [outer], [inner], perm=[0, rank - 1, *range(1, rank - 1)], name=outer)]


class _Int8:
    """A quantised layer under construction."""

    def __init__(self, constants: list[TensorProto], *, reduced: bool) -> None:
        self.constants = constants
        self.before: list[onnx.NodeProto] = []
        self.after: list[onnx.NodeProto] = []
        self._largest = 63 if reduced else 127

    def weight(self, node: onnx.NodeProto, tensor: TensorProto) -> None:
        """The weight in int8 with a scale for each output channel, or the bias in int32 with the product of scales."""
        values = np.nan_to_num(numpy_helper.to_array(tensor))
        place = list(node.input).index(tensor.name)
        if place == 2:
            scales = self._bias_scales(node, values.size)
            whole = np.rint(values.reshape(-1) / scales).clip(-(2**31), 2**31 - 1).astype(np.int32)
            self._constant(tensor.name, whole.reshape(values.shape), scales, np.int32)
            return
        axis = _channel_axis(node, values)
        scales = _channel_scales(values, axis, self._largest)
        shape = [-1 if place == axis else 1 for place in range(values.ndim)]
        whole = np.rint(values / scales.reshape(shape)).clip(-self._largest, self._largest).astype(np.int8)
        self._constant(tensor.name, whole, scales, np.int8, axis)

    def _bias_scales(self, node: onnx.NodeProto, size: int) -> NDArray[np.float32]:
        found = next((c for c in self.constants if c.name == f"{node.input[1]}_scale"), None)
        scales = np.full(size, _SCALE) if found is None else numpy_helper.to_array(found).reshape(-1)
        return np.broadcast_to(scales * _SCALE, (size,)).astype(np.float32)

    def _constant(
        self, name: str, whole: NDArray[np.integer], scales: NDArray[np.float32], zero: type, axis: int = 0
    ) -> None:
        parts: Mapping[str, NDArray[np.generic]] = {
            f"{name}_q": whole, f"{name}_scale": scales, f"{name}_zero": np.zeros(scales.shape, zero)
        }  # fmt: skip
        self.constants += [numpy_helper.from_array(value, part) for part, value in parts.items()]
        self.before.append(
            helper.make_node("DequantizeLinear", list(parts), [name], name=f"dequantise_{name}", axis=axis)
        )


def _node(op: str, inputs: list[str], output: str) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=f"{op}_{output}")


def _channel_axis(node: onnx.NodeProto, values: NDArray[np.float32]) -> int:
    """The axis of the output channels."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm" and next((item.i for item in node.attribute if item.name == "transB"), 0):
        return 0
    return values.ndim - 1


def _channel_scales(values: NDArray[np.float32], axis: int, largest: int) -> NDArray[np.float32]:
    others = tuple(place for place in range(values.ndim) if place != axis)
    highest = np.abs(values).max(axis=others) if values.size else np.zeros(values.shape[axis])
    scales = np.where(np.isfinite(highest) & (highest > 0), highest / largest, 1e-3)
    return np.maximum(scales, 1e-6).astype(np.float32)
