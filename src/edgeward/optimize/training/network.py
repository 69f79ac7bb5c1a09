"""An ONNX graph as a torch module that can be trained, and back into the same graph: no exporter stands between."""

from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from edgeward.kit.errors import Unsupported
from edgeward.optimize.torch_operators import OPERATORS

_LEARNERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "PRelu", "Add")
"""Whose constants are weights. What other operators multiply or subtract is scaling, and stays as it is."""

_NORMS = {3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_INTEGER_OPERATORS = ("QLinearConv", "QLinearMatMul", "DequantizeLinear", "QuantizeLinear", "ConvInteger",
                      "MatMulInteger", "DynamicQuantizeLinear")  # fmt: skip


def check_trainable(model: onnx.ModelProto, name: str) -> None:
    """Raises Unsupported, in one sentence, for a model that this room cannot train."""
    for node in model.graph.node:
        if node.op_type in _INTEGER_OPERATORS:
            raise Unsupported(
                f"{name}: it is quantised already ({node.op_type}), and integers cannot be trained",
                hint="give the float model, and quantise afterwards with edgeward optimize",
            )
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            raise Unsupported(
                f"{name}: the operator {node.op_type} cannot be trained here; only convolutions and dense layers can"
            )
    if len(model.graph.input) != 1:
        raise Unsupported(f"{name}: it has {len(model.graph.input)} inputs; only models with one can be trained here")


class Network(nn.Module):
    """Answers as the graph does. Weights are parameters; all else that is constant stays so."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self.model = model
        self._input = model.graph.input[0].name
        self._outputs = [output.name for output in model.graph.output]
        self._nodes = [(node, _attributes(node)) for node in model.graph.node]
        self._places = _weight_places(model)
        self.weights = nn.ParameterList()
        self._constants: dict[str, torch.Tensor] = {}
        for tensor in model.graph.initializer:
            value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            if tensor.name in self._places:
                self.weights.append(nn.Parameter(value))
            else:
                self._constants[tensor.name] = value
        self.norms = nn.ModuleDict()

    def forward(self, value: torch.Tensor) -> tuple[torch.Tensor, ...]:
        known: dict[str, Any] = {**self._constants, "": None, self._input: value}
        known.update((name, self.used(name, self.weights[place])) for name, place in self._places.items())
        known[self._input] = self.passed(self._input, value)
        for place, (node, attributes) in enumerate(self._nodes):
            made = OPERATORS[node.op_type](attributes, [known[name] for name in node.input])
            if str(place) in self.norms:
                made = self.norms[str(place)](made)
            for name, part in zip(node.output, made if isinstance(made, tuple) else (made,), strict=False):
                known[name] = self.passed(name, part)
        return tuple(known[name] for name in self._outputs)

    def used(self, name: str, weight: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - for networks that round
        """What stands for the weight of that name in a run."""
        return weight

    def passed(self, name: str, value: Any) -> Any:  # noqa: ARG002 - for networks that round
        """What those who read the tensor of that name get for it."""
        return value

    def gradients(self) -> dict[str, NDArray[np.float32]]:
        """Of each weight, by its name in the graph."""
        named = {name: self.weights[place].grad for name, place in self._places.items()}
        return {name: grad.numpy() for name, grad in named.items() if grad is not None}

    def normalised_places(self) -> list[int]:
        """The convolutions that a normalisation may follow: their weights are theirs alone, and an activation or a
        sum comes after them, not an answer."""
        answers = _answering(self.model)
        uses: dict[str, int] = {}
        for node in self.model.graph.node:
            for name in node.input:
                uses[name] = uses.get(name, 0) + 1
        return [
            place for place, (node, _) in enumerate(self._nodes)
            if node.op_type == "Conv" and node.input[1] in self._places and node.output[0] not in answers
            and all(uses[name] == 1 for name in node.input[1:] if name)
        ]  # fmt: skip

    def statistics(self, batches: list[torch.Tensor]) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        """Mean and variance per channel of what each of those convolutions gives on these batches."""
        probes = {place: _Probe() for place in self.normalised_places()}
        kept, self.norms = self.norms, nn.ModuleDict({str(place): probe for place, probe in probes.items()})
        with torch.no_grad():
            for batch in batches:
                self(batch)
        self.norms = kept
        return {place: probe.mean_and_variance() for place, probe in probes.items()}

    def insert_norms(
        self,
        here: dict[int, tuple[torch.Tensor, torch.Tensor]],
        wanted: dict[int, tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        """A batch normalisation after each convolution, which brings the statistics that are `here` to those `wanted`;
        where the two are the same the answers do not change."""
        for place, (mean, variance) in here.items():
            norm = _NORMS[self.weights[self._places[self._nodes[place][0].input[1]]].ndim](len(mean))
            goal_mean, goal_variance = wanted[place]
            with torch.no_grad():
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(variance)
                # A channel that never varies here keeps its gain: to stretch its rounding errors helps nobody.
                gain = torch.sqrt((goal_variance + norm.eps) / (variance + norm.eps)).clamp(max=4.0)
                norm.weight.copy_(gain * torch.sqrt(variance + norm.eps))
                norm.bias.copy_(goal_mean)
            self.norms[str(place)] = norm

    def to_onnx(self) -> onnx.ModelProto:
        """The graph with the weights as they are now, the normalisations folded into the convolutions."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        values = {name: self.weights[place].detach().numpy().copy() for name, place in self._places.items()}
        for key, norm in self.norms.items():
            _fold(model.graph.node[int(key)], norm, values)
        kept = [tensor for tensor in model.graph.initializer if tensor.name not in values]
        made = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in values.items()]
        del model.graph.initializer[:]
        model.graph.initializer.extend([*kept, *made])
        return model


class _Probe(nn.Module):
    """Lets values through, and remembers their sums per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.total, self.squares = 0, torch.zeros(1), torch.zeros(1)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        axes = [axis for axis in range(value.ndim) if axis != 1]
        self.count += value.numel() // value.shape[1]
        self.total = self.total + value.double().sum(axes)
        self.squares = self.squares + value.double().square().sum(axes)
        return value

    def mean_and_variance(self) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.total / self.count
        return mean.float(), (self.squares / self.count - mean.square()).clamp(min=0).float()


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {**found, "outputs": len(node.output)}


def _weight_places(model: onnx.ModelProto) -> dict[str, int]:
    """The graph's weights, numbered in the order of its initialisers."""
    frozen = {name for node in model.graph.node if node.op_type == "BatchNormalization" for name in node.input[3:5]}
    used = {name for node in model.graph.node if node.op_type in _LEARNERS for name in node.input} - frozen
    named = [
        tensor.name for tensor in model.graph.initializer
        if tensor.name in used and tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 0
    ]  # fmt: skip
    return {name: place for place, name in enumerate(named)}


def _answering(model: onnx.ModelProto) -> set[str]:
    """Tensors that reach an output without passing weights, an activation or a sum."""
    carriers = ("Reshape", "Flatten", "Transpose", "Squeeze", "Concat", "Softmax", "Sigmoid", "Identity", "Slice")
    found = {output.name for output in model.graph.output}
    for node in reversed(model.graph.node):
        if node.op_type in carriers and found & set(node.output):
            found.update(node.input)
    return found


def _fold(node: onnx.NodeProto, norm: nn.Module, values: dict[str, NDArray[np.float32]]) -> None:
    mean, variance, gamma, beta = (
        value.detach().numpy().astype(np.float64)
        for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    gain = gamma / np.sqrt(variance + norm.eps)
    weight = values[node.input[1]]
    old = values[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros(len(gain))
    values[node.input[1]] = (weight * gain.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
    if len(node.input) < 3:
        node.input.append(f"{node.input[1]}_bias")
    node.input[2] = node.input[2] or f"{node.input[1]}_bias"
    values[node.input[2]] = ((old - mean) * gain + beta).astype(np.float32)
