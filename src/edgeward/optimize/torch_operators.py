"""ONNX operators as torch functions: what networks of convolutions and dense layers are made of, and can be trained."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

Tensor = torch.Tensor
Attributes = Mapping[str, Any]
Operator = Callable[[Attributes, Sequence[Any]], Any]
"""Attributes and inputs (None where one is left out) to the output, or a tuple of outputs."""

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
_MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_MEAN_POOLS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_DTYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64}


def _padding(given: Attributes, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """Begins, then ends, per spatial axis."""
    auto = given.get("auto_pad", b"NOTSET").decode()
    if auto in ("NOTSET", "VALID"):
        return list(given.get("pads", [0] * 2 * len(sizes))) if auto == "NOTSET" else [0] * 2 * len(sizes)
    dilations = given.get("dilations", [1] * len(sizes))
    begins, ends = [], []
    for size, window, step, dilation in zip(sizes, kernel, stride, dilations, strict=True):
        total = max(0, (-(-size // step) - 1) * step + (window - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        begins.append(small if auto == "SAME_UPPER" else large)
        ends.append(large if auto == "SAME_UPPER" else small)
    return begins + ends


def _padded(value: Tensor, pads: Sequence[int], filling: float = 0.0) -> Tensor:
    """`pads` as ONNX writes them, over the last axes."""
    half = len(pads) // 2
    flat = [side for begin, end in reversed(list(zip(pads[:half], pads[half:], strict=True))) for side in (begin, end)]
    return functional.pad(value, flat, value=filling) if any(flat) else value


def _conv(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    value, weight = inputs[0], inputs[1]
    rank = weight.ndim - 2
    stride = given.get("strides", [1] * rank)
    pads = _padding(given, value.shape[2:], weight.shape[2:], stride)
    bias = inputs[2] if len(inputs) > 2 else None
    dilation, groups = given.get("dilations", [1] * rank), given.get("group", 1)
    if pads[:rank] == pads[rank:]:
        made: Tensor = _CONVOLUTIONS[rank](value, weight, bias, stride, pads[:rank], dilation, groups)
    else:
        made = _CONVOLUTIONS[rank](_padded(value, pads), weight, bias, stride, 0, dilation, groups)
    return made


def _conv_transpose(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    value, weight = inputs[0], inputs[1]
    rank = weight.ndim - 2
    pads = given.get("pads", [0] * 2 * rank)
    if given.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in given or pads[:rank] != pads[rank:]:
        raise NotImplementedError("ConvTranspose with automatic or uneven padding")
    made: Tensor = _TRANSPOSED[rank](
        value, weight, inputs[2] if len(inputs) > 2 else None, given.get("strides", [1] * rank), pads[:rank],
        given.get("output_padding", [0] * rank), given.get("group", 1), given.get("dilations", [1] * rank),
    )  # fmt: skip
    return made


def _max_pool(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    value, kernel = inputs[0], given["kernel_shape"]
    stride = given.get("strides", [1] * len(kernel))
    padded = _padded(value, _padding(given, value.shape[2:], kernel, stride), float("-inf"))
    dilation = given.get("dilations", [1] * len(kernel))
    made: Tensor = _MAX_POOLS[len(kernel)](padded, kernel, stride, 0, dilation, bool(given.get("ceil_mode", 0)))
    return made


def _mean_pool(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    value, kernel = inputs[0], given["kernel_shape"]
    stride = given.get("strides", [1] * len(kernel))
    pads = _padding(given, value.shape[2:], kernel, stride)
    pool, up = _MEAN_POOLS[len(kernel)], bool(given.get("ceil_mode", 0))
    made: Tensor = pool(_padded(value, pads), kernel, stride, 0, up)
    if any(pads) and not given.get("count_include_pad", 0):
        made = made / pool(_padded(torch.ones_like(value[:1, :1]), pads), kernel, stride, 0, up)
    return made


def _gemm(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    first = inputs[0].T if given.get("transA", 0) else inputs[0]
    second = inputs[1].T if given.get("transB", 0) else inputs[1]
    made: Tensor = given.get("alpha", 1.0) * (first @ second)
    return made if len(inputs) < 3 or inputs[2] is None else made + given.get("beta", 1.0) * inputs[2]


def _batch_norm(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    value, scale, bias, mean, variance = inputs
    return functional.batch_norm(value, mean, variance, scale, bias, False, 0.0, given.get("epsilon", 1e-5))


def _layer_norm(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    value, axis = inputs[0], given.get("axis", -1)
    bias = inputs[2] if len(inputs) > 2 else None
    return functional.layer_norm(value, value.shape[axis % value.ndim :], inputs[1], bias, given.get("epsilon", 1e-5))


def _clip(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    low = inputs[1] if len(inputs) > 1 else given.get("min")
    high = inputs[2] if len(inputs) > 2 else given.get("max")
    limits = [None if limit is None else float(limit) for limit in (low, high)]
    return torch.clamp(inputs[0], *limits)


def _axes(given: Attributes, inputs: Sequence[Any]) -> list[int] | None:
    if len(inputs) > 1 and inputs[1] is not None:
        return [int(axis) for axis in inputs[1]]
    return given.get("axes")


def _reduced(function: Callable[..., Tensor]) -> Operator:
    def apply(given: Attributes, inputs: Sequence[Any]) -> Tensor:
        axes = _axes(given, inputs) or list(range(inputs[0].ndim))
        return function(inputs[0], dim=axes, keepdim=bool(given.get("keepdims", 1)))

    return apply


def _reshape(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    wanted = [int(size) for size in inputs[1]]
    if not given.get("allowzero", 0):
        wanted = [inputs[0].shape[place] if size == 0 else size for place, size in enumerate(wanted)]
    made: Tensor = inputs[0].reshape(wanted)
    return made


def _flatten(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    axis = given.get("axis", 1) % (inputs[0].ndim + 1)
    made: Tensor = inputs[0].flatten(axis)
    return made.flatten(0, axis - 1) if axis > 1 else made if axis == 1 else inputs[0].reshape(1, -1)


def _squeeze(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    axes = _axes(given, inputs)
    return torch.squeeze(inputs[0], tuple(axes)) if axes else torch.squeeze(inputs[0])


def _unsqueeze(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    axes = _axes(given, inputs) or []
    rank, made = inputs[0].ndim + len(axes), inputs[0]
    for axis in sorted(axis % rank for axis in axes):
        made = made.unsqueeze(axis)
    return made


def _split(given: Attributes, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
    value, axis = inputs[0], given.get("axis", 0)
    if len(inputs) > 1 and inputs[1] is not None:
        return torch.split(value, [int(size) for size in inputs[1]], axis)
    if "split" in given:
        return torch.split(value, list(given["split"]), axis)
    return torch.split(value, -(-value.shape[axis] // given.get("num_outputs", given["outputs"])), axis)


def _slice(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    value = inputs[0]
    listed = [[int(one) for one in item] if item is not None else None for item in inputs[1:]]
    starts = listed[0] if listed else given["starts"]
    ends = listed[1] if listed else given["ends"]
    axes = (listed[2] if len(listed) > 2 else given.get("axes")) or range(len(starts))
    steps = (listed[3] if len(listed) > 3 else None) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        places = torch.arange(value.shape[axis])[slice(start, end, None)] if step > 0 else None
        if places is None:
            raise NotImplementedError("Slice with a negative step")
        value = value.index_select(axis, places[::step])
    return value  # type: ignore[no-any-return]


def _gather(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    value, places, axis = inputs[0], inputs[1].long(), given.get("axis", 0) % inputs[0].ndim
    places = torch.where(places < 0, places + value.shape[axis], places)
    made: Tensor = value.index_select(axis, places.reshape(-1))
    return made.reshape(*value.shape[:axis], *places.shape, *value.shape[axis + 1 :])


def _pad(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    value, mode = inputs[0], given.get("mode", b"constant").decode()
    pads = [int(side) for side in inputs[1]] if len(inputs) > 1 else list(given["pads"])
    if mode != "constant" or (len(inputs) > 3 and inputs[3] is not None):
        raise NotImplementedError(f"Pad in mode {mode}")
    filling = float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else given.get("value", 0.0)
    return _padded(value, pads, filling)


def _resize(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    value, mode = inputs[0], given.get("mode", b"nearest").decode()
    scales = [float(scale) for scale in inputs[2]] if len(inputs) > 2 and inputs[2] is not None else []
    if scales:
        sizes = [int(size * scale) for size, scale in zip(value.shape, scales, strict=True)]
    else:
        sizes = [int(size) for size in inputs[3]]
    torch_mode = {"nearest": "nearest", "linear": "bilinear"}.get(mode)
    if torch_mode is None or value.ndim != 4:
        raise NotImplementedError(f"Resize in mode {mode}")
    made: Tensor = functional.interpolate(value, sizes[2:], mode=torch_mode)
    return made


def _gelu(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    return functional.gelu(inputs[0], approximate=given.get("approximate", b"none").decode())


def _prelu(given: Attributes, inputs: Sequence[Any]) -> Tensor:  # noqa: ARG001 - the operators' signature
    return torch.where(inputs[0] >= 0, inputs[0], inputs[0] * inputs[1])


def _hard_sigmoid(given: Attributes, inputs: Sequence[Any]) -> Tensor:
    return torch.clamp(inputs[0] * given.get("alpha", 0.2) + given.get("beta", 0.5), 0.0, 1.0)


def _global_max(given: Attributes, inputs: Sequence[Any]) -> Tensor:  # noqa: ARG001 - the operators' signature
    return torch.amax(inputs[0], dim=list(range(2, inputs[0].ndim)), keepdim=True)


def _global_mean(given: Attributes, inputs: Sequence[Any]) -> Tensor:  # noqa: ARG001 - the operators' signature
    return torch.mean(inputs[0], dim=list(range(2, inputs[0].ndim)), keepdim=True)


def _plain(function: Callable[..., Any]) -> Operator:
    """An operator without attributes."""
    return lambda _, inputs: function(*inputs)


def _along(function: Callable[[Tensor, int], Tensor]) -> Operator:
    return lambda given, inputs: function(inputs[0], given.get("axis", -1))


OPERATORS: dict[str, Operator] = {
    "Abs": _plain(torch.abs), "Add": _plain(torch.add), "AveragePool": _mean_pool,
    "BatchNormalization": _batch_norm, "Cast": lambda given, inputs: inputs[0].to(_DTYPES[given["to"]]),
    "Clip": _clip, "Concat": lambda given, inputs: torch.cat(list(inputs), given["axis"]), "Conv": _conv,
    "ConvTranspose": _conv_transpose, "Div": _plain(torch.div), "Dropout": lambda _, inputs: inputs[0],
    "Elu": lambda given, inputs: functional.elu(inputs[0], given.get("alpha", 1.0)), "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp), "Expand": lambda _, inputs: inputs[0] + torch.zeros([int(n) for n in inputs[1]]),
    "Flatten": _flatten, "Gather": _gather, "Gelu": _gelu, "Gemm": _gemm, "GlobalAveragePool": _global_mean,
    "GlobalMaxPool": _global_max, "HardSigmoid": _hard_sigmoid, "HardSwish": _plain(functional.hardswish),
    "Identity": lambda _, inputs: inputs[0], "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda given, inputs: functional.leaky_relu(inputs[0], given.get("alpha", 0.01)),
    "Log": _plain(torch.log), "LogSoftmax": _along(torch.log_softmax), "MatMul": _plain(torch.matmul),
    "Max": _plain(torch.maximum), "MaxPool": _max_pool, "Min": _plain(torch.minimum), "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg), "PRelu": _prelu, "Pad": _pad, "Pow": _plain(torch.pow),
    "Reciprocal": _plain(torch.reciprocal), "ReduceMax": _reduced(torch.amax), "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum), "Relu": _plain(torch.relu), "Reshape": _reshape, "Resize": _resize,
    "Shape": lambda given, inputs: torch.tensor(inputs[0].shape[given.get("start", 0) : given.get("end")]),
    "Sigmoid": _plain(torch.sigmoid), "Slice": _slice, "Softmax": _along(torch.softmax),
    "Softplus": _plain(functional.softplus), "Split": _split, "Sqrt": _plain(torch.sqrt), "Squeeze": _squeeze,
    "Sub": _plain(torch.sub), "Sum": lambda _, inputs: sum(inputs), "Tanh": _plain(torch.tanh),
    "Transpose": lambda given, inputs: inputs[0].permute(given.get("perm", tuple(range(inputs[0].ndim))[::-1])),
    "Unsqueeze": _unsqueeze,
}  # fmt: skip
"""By the operator's name in the default domain."""
