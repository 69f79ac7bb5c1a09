"""A model's own graph, as a profile needs it: operators with their work, and tensors with their sizes."""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

BYTES = {
    "float32": 4, "float16": 2, "bfloat16": 2, "float64": 8, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4,
    "uint32": 4, "int64": 8, "uint64": 8, "bool": 1,
}  # fmt: skip


class SourceTensor(NamedTuple):
    """`shape` is None where it is not known before a run."""

    shape: tuple[int, ...] | None
    dtype: str
    is_constant: bool = False

    @property
    def elements(self) -> int:
        return math.prod(self.shape or ())


class SourceNode(NamedTuple):
    """An operator. `macs` is None where its shapes are not known; `group` is 1 unless channels are apart."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    macs: int | None = 0
    is_depthwise: bool = False


class SourceGraph:
    """Operators in the order of the file."""

    def __init__(
        self, nodes: tuple[SourceNode, ...], tensors: Mapping[str, SourceTensor], outputs: tuple[str, ...]
    ) -> None:
        self.nodes = nodes
        self.tensors = tensors
        self.outputs = outputs

    @cached_property
    def makers(self) -> dict[str, int]:
        """The place of the operator that makes a tensor."""
        return {name: place for place, node in enumerate(self.nodes) for name in node.outputs}

    @cached_property
    def readers(self) -> dict[str, list[int]]:
        """The places of the operators that read a tensor."""
        found: dict[str, list[int]] = {}
        for place, node in enumerate(self.nodes):
            for name in node.inputs:
                found.setdefault(name, []).append(place)
        return found

    @cached_property
    def constant(self) -> frozenset[str]:
        """Tensors that are known before any run: constants, and what is computed from them alone."""
        known = {name for name, tensor in self.tensors.items() if tensor.is_constant}
        for node in self.nodes:
            if node.op != "RandomNormal" and all(name in known for name in node.inputs if name):
                known.update(node.outputs)
        return frozenset(known)

    def is_folded(self, place: int) -> bool:
        """Whether an operator can be computed once, when the model is loaded."""
        return all(name in self.constant for name in self.nodes[place].outputs)
