"""The rules for operators that move, cut, join, reduce or resize values."""

import numpy as np

from edgeward.kit.errors import Unsupported
from edgeward.optimize.from_litert.builder import AS_IS, NCHW, Builder, NeedsFixedBatch
from edgeward.optimize.from_litert.elementwise import Rule, activated
from edgeward.optimize.from_litert.file import Operator

_PLANES_PLACE = (0, 2, 3, 1)
"""Where each axis of an image stands once its channels are first."""
_REDUCTIONS = {"MEAN": "ReduceMean", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin"}


def reshape(builder: Builder, operator: Operator) -> None:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the shape of the result says all."""
    source, result = operator.inputs[0], operator.outputs[0]
    if builder.is_constant(source):
        builder.fold(result, builder.constant(source).reshape(builder.shape(result)))
        return
    before, after = builder.shape(source), builder.shape(result)
    rows = builder.keeps_rows(operator, when=before[:1] == after[:1])
    builder.put(result, builder.node("Reshape", [builder.real(source), builder.target(result, rows=rows)]), rows=rows)


def transpose(builder: Builder, operator: Operator) -> None:
    order = builder.numbers(operator.inputs[1])
    rows = builder.keeps_rows(operator, when=order[0] == 0)
    builder.put(
        operator.outputs[0], builder.node("Transpose", [builder.real(operator.inputs[0])], perm=order), rows=rows
    )


def concatenation(builder: Builder, operator: Operator) -> None:
    axis = operator.option("axis", 0) % len(builder.shape(operator.outputs[0]))
    rows = builder.keeps_rows(operator, when=axis != 0)
    parts = operator.inputs
    in_planes = len(builder.shape(parts[0])) == 4 and all(
        not builder.is_constant(index) and builder.native(index) == NCHW for index in parts
    )
    layout = NCHW if in_planes else AS_IS
    place = _PLANES_PLACE[axis] if in_planes else axis
    made = builder.node("Concat", [builder.real(index, layout) for index in parts], axis=place)
    builder.put(operator.outputs[0], activated(builder, operator, made), layout, rows=rows)


def pad(builder: Builder, operator: Operator) -> None:
    pairs = builder.constant(operator.inputs[1]).reshape(-1, 2)
    rows = builder.keeps_rows(operator, when=not pairs[0].any())
    source = operator.inputs[0]
    in_planes = len(pairs) == 4 and builder.native(source) == NCHW
    ordered = pairs[[0, 3, 1, 2]] if in_planes else pairs
    layout = NCHW if in_planes else AS_IS
    names = [builder.real(source, layout), builder.vector(*ordered[:, 0].tolist(), *ordered[:, 1].tolist())]
    if operator.name == "MIRROR_PAD":
        if operator.option("mode", 0) != 0:
            raise Unsupported("MIRROR_PAD that repeats the border is not supported")
        made = builder.node("Pad", names, mode="reflect")
    else:
        filler = builder.real_constant(operator.inputs[2]) if len(operator.inputs) > 2 else np.zeros(1, np.float32)
        made = builder.node("Pad", [*names, builder.weight(filler.reshape(()).astype(np.float32))])
    builder.put(operator.outputs[0], made, layout, rows=rows)


def reduction(builder: Builder, operator: Operator) -> None:
    source, result = operator.inputs[0], operator.outputs[0]
    rank = len(builder.shape(source))
    axes = sorted(axis % rank for axis in builder.numbers(operator.inputs[1]))
    rows = builder.keeps_rows(operator, when=0 not in axes)
    keep = bool(operator.option("keepDims", False))
    in_planes = rank == 4 and builder.native(source) == NCHW and axes == [1, 2]
    layout = NCHW if in_planes else AS_IS
    places = [2, 3] if in_planes else axes
    name = builder.real(source, layout)
    if operator.name == "SUM":
        made = builder.node("ReduceSum", [name, builder.vector(*places)], keepdims=int(keep))
    else:
        made = builder.node(_REDUCTIONS[operator.name], [name], axes=places, keepdims=int(keep))
    builder.put(result, made, layout if keep else AS_IS, rows=rows)


def softmax(builder: Builder, operator: Operator) -> None:
    rows = builder.keeps_rows(operator, when=len(builder.shape(operator.inputs[0])) > 1)
    name = builder.real(operator.inputs[0])
    beta = float(operator.option("beta", 1.0)) if operator.name == "SOFTMAX" else 1.0
    if beta != 1.0:
        name = builder.node("Mul", [name, builder.weight(np.array(beta, np.float32))])
    kind = "Softmax" if operator.name == "SOFTMAX" else "LogSoftmax"
    builder.put(operator.outputs[0], builder.node(kind, [name], axis=-1), rows=rows)


def slice_(builder: Builder, operator: Operator) -> None:
    begin, size = builder.numbers(operator.inputs[1]), builder.numbers(operator.inputs[2])
    shape = builder.shape(operator.inputs[0])
    ends = [
        first + (count if count >= 0 else whole - first) for first, count, whole in zip(begin, size, shape, strict=True)
    ]
    _cut(builder, operator, list(begin), ends, [1] * len(shape))


def strided_slice(builder: Builder, operator: Operator) -> None:
    if operator.option("ellipsisMask", 0) or operator.option("newAxisMask", 0):
        raise Unsupported("STRIDED_SLICE with an ellipsis or a new axis is not supported")
    begin, end, steps = (list(builder.numbers(index)) for index in operator.inputs[1:4])
    shape = builder.shape(operator.inputs[0])
    shrunk = operator.option("shrinkAxisMask", 0)
    for axis, whole in enumerate(shape):
        if operator.option("beginMask", 0) >> axis & 1:
            begin[axis] = 0 if steps[axis] > 0 else whole - 1
        if operator.option("endMask", 0) >> axis & 1:
            end[axis] = whole if steps[axis] > 0 else -whole - 1
        if shrunk >> axis & 1:
            end[axis] = begin[axis] + 1 if begin[axis] != -1 else whole
    _cut(builder, operator, begin, end, steps)


def _cut(builder: Builder, operator: Operator, begin: list[int], end: list[int], steps: list[int]) -> None:
    source, result = operator.inputs[0], operator.outputs[0]
    if builder.is_constant(source):
        cut = tuple(slice(*parts) for parts in zip(begin, end, steps, strict=True))
        builder.fold(result, builder.constant(source)[cut].reshape(builder.shape(result)))
        return
    whole = builder.shape(source)[0]
    all_samples = begin[0] == 0 and end[0] >= whole and steps[0] == 1
    rows = builder.keeps_rows(operator, when=all_samples and len(builder.shape(result)) == len(begin))
    axes = [axis for axis in range(len(begin)) if axis or not rows]
    names = [builder.vector(*(values[axis] for axis in axes)) for values in (begin, end)]
    steps_name = builder.vector(*(steps[axis] for axis in axes))
    made = builder.node("Slice", [builder.real(source), *names, builder.vector(*axes), steps_name])
    if len(builder.shape(result)) != len(begin):
        made = builder.node("Reshape", [made, builder.target(result, rows=rows)])
    builder.put(result, made, rows=rows)


def split(builder: Builder, operator: Operator) -> None:
    """SPLIT names its axis first, SPLIT_V last."""
    source = operator.inputs[1] if operator.name == "SPLIT" else operator.inputs[0]
    which = operator.inputs[0] if operator.name == "SPLIT" else operator.inputs[2]
    axis = builder.numbers(which)[0] % len(builder.shape(source))
    rows = builder.keeps_rows(operator, when=axis != 0)
    sizes = builder.vector(*(builder.shape(result)[axis] for result in operator.outputs))
    parts = builder.node_many("Split", [builder.real(source), sizes], len(operator.outputs), axis=axis)
    for result, name in zip(operator.outputs, parts, strict=True):
        builder.put(result, name, rows=rows)


def resize(builder: Builder, operator: Operator) -> None:
    source, result = operator.inputs[0], operator.outputs[0]
    rows = builder.keeps_rows(operator)
    corners, half = bool(operator.option("alignCorners", False)), bool(operator.option("halfPixelCenters", False))
    place = "align_corners" if corners else "half_pixel" if half else "asymmetric"
    mode = "linear" if operator.name == "RESIZE_BILINEAR" else "nearest"
    if mode == "nearest" and corners:
        raise Unsupported("RESIZE_NEAREST_NEIGHBOR with aligned corners is not supported")
    before, after = builder.shape(source), builder.shape(result)
    factors = np.array([1, 1, after[1] / before[1], after[2] / before[2]], np.float32)
    made = builder.node(
        "Resize", [builder.real(source, NCHW), "", builder.weight(factors, "factors")],
        mode=mode, coordinate_transformation_mode=place, nearest_mode="floor",
    )  # fmt: skip
    builder.put(result, made, NCHW, rows=rows)


def blocks(builder: Builder, operator: Operator) -> None:
    """DEPTH_TO_SPACE and SPACE_TO_DEPTH. The latter's channel order is ONNX's too."""
    rows = builder.keeps_rows(operator)
    kind = "DepthToSpace" if operator.name == "DEPTH_TO_SPACE" else "SpaceToDepth"
    made = builder.node(kind, [builder.real(operator.inputs[0], NCHW)], blocksize=operator.option("blockSize", 1))
    builder.put(operator.outputs[0], made, NCHW, rows=rows)


def pack(builder: Builder, operator: Operator) -> None:
    result = operator.outputs[0]
    axis = operator.option("axis", 0) % len(builder.shape(result))
    if all(builder.is_constant(index) for index in operator.inputs):
        builder.fold(result, np.stack([builder.constant(index) for index in operator.inputs], axis))
        return
    rows = builder.keeps_rows(operator, when=axis != 0)
    parts = [builder.node("Unsqueeze", [builder.real(index), builder.vector(axis)]) for index in operator.inputs]
    builder.put(result, builder.node("Concat", parts, axis=axis), rows=rows)


def gather(builder: Builder, operator: Operator) -> None:
    source, places = operator.inputs[:2]
    if operator.option("batchDims", 0):
        raise Unsupported("GATHER with batch dimensions is not supported")
    axis = operator.option("axis", 0) % len(builder.shape(source))
    if source in builder.rows and axis == 0:
        raise NeedsFixedBatch
    rows = builder.keeps_rows(operator, when=(source in builder.rows and axis > 0) or places in builder.rows)
    made = builder.node("Gather", [builder.real(source), builder.integers(places)], axis=axis)
    builder.put(operator.outputs[0], made, rows=rows)


def batch_matmul(builder: Builder, operator: Operator) -> None:
    rows = builder.keeps_rows(operator, when=len(builder.shape(operator.outputs[0])) > 2)
    names = []
    for index, option in zip(operator.inputs[:2], ("adjX", "adjY"), strict=True):
        name, rank = builder.real(index), len(builder.shape(index))
        if operator.option(option, False):
            name = builder.node("Transpose", [name], perm=(*range(rank - 2), rank - 1, rank - 2))
        names.append(name)
    builder.put(operator.outputs[0], builder.node("MatMul", names), rows=rows)


def shape(builder: Builder, operator: Operator) -> None:
    """A constant where the batch is fixed."""
    if builder.carries(operator):
        raise NeedsFixedBatch
    dtype = builder.tensor(operator.outputs[0]).dtype
    builder.fold(operator.outputs[0], np.array(builder.shape(operator.inputs[0]), dtype))


RULES: dict[str, Rule] = {
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), reshape),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), pad),
    **dict.fromkeys((*_REDUCTIONS, "SUM"), reduction),
    **dict.fromkeys(("SOFTMAX", "LOG_SOFTMAX"), softmax),
    **dict.fromkeys(("SPLIT", "SPLIT_V"), split),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), resize),
    **dict.fromkeys(("DEPTH_TO_SPACE", "SPACE_TO_DEPTH"), blocks),
    "BATCH_MATMUL": batch_matmul,
    "CONCATENATION": concatenation,
    "GATHER": gather,
    "PACK": pack,
    "SHAPE": shape,
    "SLICE": slice_,
    "STRIDED_SLICE": strided_slice,
    "TRANSPOSE": transpose,
}
