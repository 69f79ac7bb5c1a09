"""The rules for operators that work on each value alone, or on pairs of values."""

import math
from collections.abc import Callable

import numpy as np
import onnx

from edgeward.kit.errors import Unsupported
from edgeward.optimize.from_litert.builder import AS_IS, NCHW, TO_NCHW, Builder, Layout
from edgeward.optimize.from_litert.file import Operator

Rule = Callable[[Builder, Operator], None]

_PAIRS = {
    "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "Max", "MINIMUM": "Min", "POW": "Pow",
}  # fmt: skip
_SINGLES = {
    "ABS": "Abs", "CEIL": "Ceil", "COS": "Cos", "ELU": "Elu", "EXP": "Exp", "FLOOR": "Floor", "LOG": "Log",
    "LOGISTIC": "Sigmoid", "NEG": "Neg", "RELU": "Relu", "ROUND": "Round", "SIN": "Sin", "SQRT": "Sqrt",
    "TANH": "Tanh",
}  # fmt: skip
_NO_ACTIVATION, _RELU, _RELU_N1_TO_1, _RELU6, _TANH = range(5)


def activated(builder: Builder, operator: Operator, name: str) -> str:
    """`name` after the activation that is written into the operator."""
    match operator.option("fusedActivationFunction", _NO_ACTIVATION):
        case 0:
            return name
        case 1:
            return builder.node("Relu", [name])
        case 2:
            return _clipped(builder, name, -1, 1)
        case 3:
            return _clipped(builder, name, 0, 6)
        case 4:
            return builder.node("Tanh", [name])
        case other:
            raise Unsupported(f"{operator.name} ends in the activation number {other}, which is not supported")


def pair(builder: Builder, operator: Operator) -> None:
    """Two inputs, one stretched to the other's shape."""
    layout = _layout(builder, operator)
    rows = builder.keeps_rows(operator)
    names = [_in_layout(builder, index, layout) for index in operator.inputs]
    if operator.name == "SQUARED_DIFFERENCE":
        difference = builder.node("Sub", names)
        made = builder.node("Mul", [difference, difference])
    else:
        made = builder.node(_PAIRS[operator.name], names)
    builder.put(operator.outputs[0], activated(builder, operator, made), layout, rows=rows)


def single(builder: Builder, operator: Operator) -> None:
    """One input, in whichever layout it is there."""
    index = operator.inputs[0]
    layout = builder.native(index)
    rows = builder.keeps_rows(operator)
    builder.put(operator.outputs[0], _of_one(builder, operator, builder.real(index, layout)), layout, rows=rows)


def _of_one(builder: Builder, operator: Operator, name: str) -> str:
    match operator.name:
        case "RELU6":
            return _clipped(builder, name, 0, 6)
        case "RELU_N1_TO_1":
            return _clipped(builder, name, -1, 1)
        case "RSQRT":
            return builder.node("Reciprocal", [builder.node("Sqrt", [name])])
        case "SQUARE":
            return builder.node("Mul", [name, name])
        case "LEAKY_RELU":
            return builder.node("LeakyRelu", [name], alpha=float(operator.option("alpha", 0.0)))
        case "HARD_SWISH":
            return builder.node("HardSwish", [name])
        case "GELU":
            return _gelu(builder, name, is_approximate=bool(operator.option("approximate", False)))
        case "QUANTIZE" | "DEQUANTIZE":
            return name
        case kind:
            return builder.node(_SINGLES[kind], [name])


def _gelu(builder: Builder, name: str, *, is_approximate: bool) -> str:
    """x/2 · (1 + erf(x/√2)), or with a tanh in the place of erf: opset 17 has no operator of its own."""
    half = builder.node("Mul", [name, _number(builder, 0.5)])
    if is_approximate:
        cube = builder.node("Mul", [builder.node("Mul", [name, name]), name])
        inner = builder.node("Add", [name, builder.node("Mul", [cube, _number(builder, 0.044715)])])
        bent = builder.node("Tanh", [builder.node("Mul", [inner, _number(builder, math.sqrt(2 / math.pi))])])
    else:
        bent = builder.node("Erf", [builder.node("Mul", [name, _number(builder, math.sqrt(0.5))])])
    return builder.node("Mul", [half, builder.node("Add", [bent, _number(builder, 1.0)])])


def prelu(builder: Builder, operator: Operator) -> None:
    """A slope for each channel, which stands last."""
    rows = builder.keeps_rows(operator)
    made = builder.node("PRelu", [builder.real(operator.inputs[0]), builder.real(operator.inputs[1])])
    builder.put(operator.outputs[0], made, rows=rows)


def cast(builder: Builder, operator: Operator) -> None:
    rows = builder.keeps_rows(operator)
    wanted = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(builder.tensor(operator.outputs[0]).dtype))
    builder.put(operator.outputs[0], builder.node("Cast", [builder.real(operator.inputs[0])], to=wanted), rows=rows)


def _layout(builder: Builder, operator: Operator) -> Layout:
    """Planes first where an image is there so, and nothing else is in the way."""
    computed = [index for index in operator.inputs if not builder.is_constant(index)]
    is_planar = any(builder.native(index) == NCHW for index in computed)
    return NCHW if is_planar and all(len(builder.shape(index)) == 4 for index in computed) else AS_IS


def _in_layout(builder: Builder, index: int, layout: Layout) -> str:
    """A constant is stretched to four axes before they are moved."""
    if layout == AS_IS or not builder.is_constant(index):
        return builder.real(index, layout)
    value = builder.real_constant(index)
    whole = value.reshape((1,) * (4 - value.ndim) + value.shape)
    return builder.weight(whole.transpose(TO_NCHW))


def _clipped(builder: Builder, name: str, low: float, high: float) -> str:
    return builder.node("Clip", [name, _number(builder, low), _number(builder, high)])


def _number(builder: Builder, value: float) -> str:
    return builder.weight(np.array(value, np.float32), "number")


RULES: dict[str, Rule] = {
    **dict.fromkeys((*_PAIRS, "SQUARED_DIFFERENCE"), pair),
    **dict.fromkeys(
        (*_SINGLES, "RELU6", "RELU_N1_TO_1", "RSQRT", "SQUARE", "LEAKY_RELU", "HARD_SWISH", "GELU", "QUANTIZE",
         "DEQUANTIZE"),
        single,
    ),
    "CAST": cast,
    "PRELU": prelu,
}  # fmt: skip
