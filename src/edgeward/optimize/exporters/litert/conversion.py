"""Walks an ONNX graph and builds the LiteRT model: each node by its handler, quantise pairs by name alone."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx

from edgeward.kit.errors import Unsupported
from edgeward.optimize.exporters.litert.flat import FlatModel, Quantisation
from edgeward.optimize.exporters.litert.graph import Graph, attribute
from edgeward.optimize.exporters.litert.values import Permutation, Value, Values, plain

Handler = Callable[["Conversion", onnx.NodeProto], None]

_RELU6 = 6.0


class Ending(NamedTuple):
    """Where an operator's result goes: the ONNX name it takes, the activation it ends in, its int8 form if it has
    one. `absorbed` are the outputs of the nodes that it stands for as well."""

    name: str
    activation: str
    quantisation: Quantisation | None
    absorbed: tuple[str, ...]


class Conversion:
    """The graph, the file under construction, and what each ONNX name stands for by now."""

    def __init__(self, graph: Graph, handlers: Mapping[str, Handler]) -> None:
        self.graph = graph
        self.flat = FlatModel()
        self.values = Values(self.flat, halves=any(one.dtype == np.float16 for one in graph.constants.values()))
        self._handlers = handlers
        self._named: dict[str, Value] = {}
        self._done: set[str] = set()

    def to_bytes(self) -> bytes:
        """The whole model. Raises Unsupported, naming the first operator that has no handler."""
        inputs = {name: self._input(name) for name in self.graph.inputs}
        for node in self.graph.nodes:
            if node.output[0] not in self._done:
                self._convert(node)
        outputs = {name: self._output(name) for name in self.graph.outputs}
        return self.flat.to_bytes(inputs, outputs)

    def value(self, name: str) -> Value:
        """What an ONNX name stands for."""
        if name not in self._named and name in self.graph.constants:
            self._named[name] = self.values.constant(self.graph.constants[name])
        if name not in self._named:
            raise Unsupported(f"LiteRT: {name!r} is read before it is computed")
        return self._named[name]

    def constant(self, name: str) -> np.ndarray[Any, Any] | None:
        """The constant of that name, dequantised; None for what is computed."""
        found = self.value(name)
        return found.constant if found.quantisation is None else self.values.floating(found).constant

    def tell(self, name: str, value: Value) -> None:
        """From now on `name` stands for `value`."""
        self._named[name] = value

    def absorb(self, outputs: tuple[str, ...]) -> None:
        """The nodes that compute `outputs` are done as well: another operator stands for them."""
        self._done.update(outputs)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value in ONNX's order. Raises Unsupported where it is not fixed."""
        if name not in self.graph.shapes:
            raise Unsupported(f"LiteRT wants fixed shapes; that of {name!r} is not known before it runs")
        return self.graph.shapes[name]

    def ending(self, name: str, *, fuse: bool = True) -> Ending:
        """What follows `name` and can be made part of the operator that computes it."""
        activation, absorbed = "NONE", list[str]()
        user = self.graph.sole_user(name)
        if fuse and user is not None and (found := self._activation_of(user)):
            activation, name = found, user.output[0]
            absorbed.append(name)
            user = self.graph.sole_user(name)
        if user is not None and user.op_type == "QuantizeLinear":
            quantisation = self.quantisation_of(user)
            if quantisation.is_per_tensor:
                return Ending(user.output[0], activation, quantisation, (*absorbed, user.output[0]))
        return Ending(name, activation, None, tuple(absorbed))

    def finish(self, ending: Ending, value: Value) -> None:
        """The operator that ends so is written; `value` is its result."""
        self._done.update(ending.absorbed)
        self.tell(ending.name, value)

    def result(self, ending: Ending, shape: tuple[int, ...], order: Permutation | None = None) -> Value:
        """A new tensor for an operator's result, int8 where it ends so."""
        order = order or plain(len(shape))
        dtype = "float32" if ending.quantisation is None else "int8"
        return self.values.new(shape, order, dtype, ending.quantisation)

    def quantisation_of(self, node: onnx.NodeProto) -> Quantisation:
        """The scales of a QuantizeLinear or DequantizeLinear, for int8."""
        if attribute(node, "block_size", 0):
            raise Unsupported("LiteRT: weights with a scale for each block of them, such as int4 ones")
        scale, zero = self.graph.constants.get(node.input[1]), None
        if len(node.input) > 2 and node.input[2]:
            zero = self.graph.constants.get(node.input[2])
        if scale is None or (len(node.input) > 2 and node.input[2] and zero is None):
            raise Unsupported("LiteRT: a quantisation scale is computed while the model runs")
        scales = tuple(float(value) for value in np.ravel(scale))
        zeros = np.zeros(len(scales), np.uint8 if zero is None else zero.dtype) if zero is None else np.ravel(zero)
        shift = 128 if zeros.dtype == np.uint8 else 0
        if zeros.dtype not in (np.uint8, np.int8, np.int32):
            raise Unsupported(f"LiteRT: quantised to {zeros.dtype}, wanted int8 or uint8")
        axis = attribute(node, "axis", 1)
        return Quantisation(scales, tuple(int(value) - shift for value in zeros), axis if len(scales) > 1 else 0)

    def _convert(self, node: onnx.NodeProto) -> None:
        if node.domain not in ("", "ai.onnx"):
            raise Unsupported(f"LiteRT: no counterpart of {node.domain}.{node.op_type}")
        if node.op_type == "QuantizeLinear":
            self._quantize(node)
        elif node.op_type == "DequantizeLinear":
            self._dequantize(node)
        elif node.op_type in self._handlers:
            self._handlers[node.op_type](self, node)
        else:
            raise Unsupported(f"LiteRT: no counterpart of the operator {node.op_type}")

    def _quantize(self, node: onnx.NodeProto) -> None:
        quantisation = self.quantisation_of(node)
        if not quantisation.is_per_tensor:
            raise Unsupported("LiteRT: activations with a scale for each channel")
        self.tell(node.output[0], self.values.quantised(self.value(node.input[0]), quantisation))

    def _dequantize(self, node: onnx.NodeProto) -> None:
        value, quantisation = self.value(node.input[0]), self.quantisation_of(node)
        if value.constant is not None:
            if value.dtype == "uint8":
                value = value._replace(constant=(value.constant.astype(np.int16) - 128).astype(np.int8), dtype="int8")
            if quantisation.axis < 0:
                quantisation = quantisation._replace(axis=quantisation.axis + len(value.shape))
            value = value._replace(quantisation=quantisation)
        elif value.dtype == "uint8" and value.quantisation is None:
            value = self._raw_bytes(value, quantisation)
        elif value.dtype == "int8" and value.quantisation is None:
            self.flat.state_quantisation(value.tensor, quantisation)
            value = value._replace(quantisation=quantisation)
        elif value.quantisation != quantisation:
            raise Unsupported("LiteRT: a value is quantised with one scale and dequantised with another")
        self.tell(node.output[0], value)

    def _raw_bytes(self, value: Value, quantisation: Quantisation) -> Value:
        """A uint8 input read as quantised: its bytes minus 128 are the int8 form."""
        stated = quantisation._replace(zero_points=tuple(zero + 128 for zero in quantisation.zero_points))
        self.flat.state_quantisation(value.tensor, stated)
        return self.values.quantised(value._replace(quantisation=stated), quantisation)

    def _activation_of(self, node: onnx.NodeProto) -> str | None:
        if node.op_type == "Relu":
            return "RELU"
        if node.op_type == "Clip":
            low, high = self.bounds(node)
            if low == 0 and high == _RELU6:
                return "RELU6"
            if low == 0 and high is None:
                return "RELU"
        return None

    def bounds(self, node: onnx.NodeProto) -> tuple[float | None, float | None]:
        """The limits of a Clip, as attributes or as inputs."""
        return self._bound(node, 1), self._bound(node, 2)

    def _bound(self, node: onnx.NodeProto, place: int) -> float | None:
        name = ("", "min", "max")[place]
        if attribute(node, name) is not None:
            return float(attribute(node, name))
        if len(node.input) <= place or not node.input[place]:
            return None
        value = self.constant(node.input[place])
        return None if value is None else float(value.reshape(()))

    def _input(self, name: str) -> int:
        shape, dtype = self.shape(name), self.graph.dtypes[name]
        value = self.values.new(shape, plain(len(shape)), dtype)
        self.flat.name(value.tensor, name)
        self.tell(name, value)
        return value.tensor

    def _output(self, name: str) -> int:
        value = self.value(name)
        if self.graph.dtypes[name] != "int8":
            value = self.values.floating(value)
        value = self.values.ordered(value, plain(len(value.shape)))
        return self.values.index(value)
