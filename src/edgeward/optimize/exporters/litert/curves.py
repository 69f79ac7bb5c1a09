"""Activations that LiteRT has no operator for, from those that it has."""

import numpy as np
import onnx

from edgeward.optimize.exporters.litert.conversion import Conversion, Handler
from edgeward.optimize.exporters.litert.graph import attribute
from edgeward.optimize.exporters.litert.pointwise import compute
from edgeward.optimize.exporters.litert.values import Value

_SELU_ALPHA, _SELU_GAMMA = 1.6732632423543772, 1.0507009873554805


def _number(conversion: Conversion, value: float) -> Value:
    return conversion.values.constant(np.array(value, np.float32))


def _source(conversion: Conversion, node: onnx.NodeProto) -> Value:
    return conversion.values.floating(conversion.value(node.input[0]))


def _times(conversion: Conversion, source: Value, factor: float) -> Value:
    return compute(conversion, "MUL", [source, _number(conversion, factor)], source.shape)


def _softplus(conversion: Conversion, source: Value) -> Value:
    """log(1 + eˣ) as max(x, 0) + log(1 + e^-|x|), which overflows nowhere."""
    shape = source.shape
    size = compute(conversion, "ABS", [source], shape)
    power = compute(conversion, "EXP", [compute(conversion, "NEG", [size], shape)], shape)
    rest = compute(conversion, "LOG", [compute(conversion, "ADD", [power, _number(conversion, 1)], shape)], shape)
    return compute(conversion, "ADD", [compute(conversion, "RELU", [source], shape), rest], shape)


def softplus(conversion: Conversion, node: onnx.NodeProto) -> None:
    conversion.tell(node.output[0], _softplus(conversion, _source(conversion, node)))


def mish(conversion: Conversion, node: onnx.NodeProto) -> None:
    """x × tanh(softplus(x))."""
    source = _source(conversion, node)
    bent = compute(conversion, "TANH", [_softplus(conversion, source)], source.shape)
    conversion.tell(node.output[0], compute(conversion, "MUL", [source, bent], source.shape))


def swish(conversion: Conversion, node: onnx.NodeProto) -> None:
    """x × sigmoid(alpha × x)."""
    source, alpha = _source(conversion, node), attribute(node, "alpha", 1.0)
    inner = source if alpha == 1.0 else _times(conversion, source, alpha)
    gate = compute(conversion, "LOGISTIC", [inner], source.shape)
    conversion.tell(node.output[0], compute(conversion, "MUL", [source, gate], source.shape))


def softsign(conversion: Conversion, node: onnx.NodeProto) -> None:
    """x ÷ (1 + |x|)."""
    source = _source(conversion, node)
    size = compute(conversion, "ABS", [source], source.shape)
    below = compute(conversion, "ADD", [size, _number(conversion, 1)], source.shape)
    conversion.tell(node.output[0], compute(conversion, "DIV", [source, below], source.shape))


def _bent(conversion: Conversion, source: Value, alpha: float) -> Value:
    """x above 0, alpha × (eˣ - 1) below: max(x, 0) + alpha × elu(min(x, 0))."""
    if alpha == 1.0:
        return compute(conversion, "ELU", [source], source.shape)
    low = compute(conversion, "MINIMUM", [source, _number(conversion, 0)], source.shape)
    low = _times(conversion, compute(conversion, "ELU", [low], source.shape), alpha)
    return compute(conversion, "ADD", [compute(conversion, "RELU", [source], source.shape), low], source.shape)


def elu(conversion: Conversion, node: onnx.NodeProto) -> None:
    conversion.tell(node.output[0], _bent(conversion, _source(conversion, node), attribute(node, "alpha", 1.0)))


def selu(conversion: Conversion, node: onnx.NodeProto) -> None:
    alpha, gamma = attribute(node, "alpha", _SELU_ALPHA), attribute(node, "gamma", _SELU_GAMMA)
    bent = _bent(conversion, _source(conversion, node), alpha)
    conversion.tell(node.output[0], _times(conversion, bent, gamma))


def celu(conversion: Conversion, node: onnx.NodeProto) -> None:
    """x above 0, alpha × (e^(x ÷ alpha) - 1) below: alpha × elu(x ÷ alpha)."""
    alpha = attribute(node, "alpha", 1.0)
    bent = _bent(conversion, _times(conversion, _source(conversion, node), 1 / alpha), 1.0)
    conversion.tell(node.output[0], _times(conversion, bent, alpha))


HANDLERS: dict[str, Handler] = {
    "Celu": celu,
    "Elu": elu,
    "Mish": mish,
    "Selu": selu,
    "Softplus": softplus,
    "Softsign": softsign,
    "Swish": swish,
}
