"""What became of each operator of a model: which kernel it ran in, or that it was computed beforehand, or is gone."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import onnx

from edgeward.measure.profiling.onnx_graph import numbers_in
from edgeward.measure.profiling.source_graph import SourceGraph
from edgeward.measure.work import KINDS

Fate = Literal["ran", "fused", "folded", "removed"]

_TENSOR = re.compile(r"@(\d+)@(\d+)")
_TAILS = frozenset({"Add", "Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "Tanh", "Mul", "BatchNormalization"})
_INSERTED = ("ReorderInput", "ReorderOutput")
VIEWS = frozenset({
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE",
})  # fmt: skip
"""What may be left out: it changes only how a tensor is read."""


class Fates(NamedTuple):
    """For each kernel the places of its operators, in graph order; for each operator its kernel, or None and why."""

    of_kernels: tuple[tuple[int, ...], ...]
    of_nodes: tuple[tuple[Fate, int | None], ...]


def fates(graph: SourceGraph, told: Sequence[Sequence[int]]) -> Fates:
    """From what the runtime told of each kernel; an operator that it does not name went into the kernel before it.

    Of several operators in a kernel the one with most work "ran", and the others are "fused" into it.
    """
    kernel: dict[int, int] = {}
    for number, places in enumerate(told):
        for place in places:
            if place < len(graph.nodes):
                kernel.setdefault(place, number)
    gone: dict[int, Fate] = {}
    for place, node in enumerate(graph.nodes):
        if place in kernel:
            continue
        if graph.is_folded(place):
            gone[place] = "folded"
        elif node.op in VIEWS:
            gone[place] = "removed"
    _absorb(graph, kernel, gone)
    groups: list[list[int]] = [[] for _ in told]
    for place in sorted(kernel):
        groups[kernel[place]].append(place)
    main = {_main(graph, group) for group in groups if group}
    return Fates(
        tuple(map(tuple, groups)),
        tuple(
            ("ran" if place in main else "fused", kernel[place])
            if place in kernel
            else (gone.get(place, "removed"), None)
            for place in range(len(graph.nodes))
        ),
    )


def _absorb(graph: SourceGraph, kernel: dict[int, int], gone: dict[int, Fate]) -> None:
    """Gives operators that no kernel names to the last kernel that feeds them, or else to the first that they feed."""
    for place, node in enumerate(graph.nodes):
        if place in kernel or place in gone:
            continue
        before = [kernel[maker] for name in node.inputs if (maker := graph.makers.get(name, -1)) in kernel]
        if before:
            kernel[place] = max(before)
    for place in reversed(range(len(graph.nodes))):
        if place in kernel or place in gone:
            continue
        after = [
            kernel[reader]
            for name in graph.nodes[place].outputs
            for reader in graph.readers.get(name, ())
            if reader in kernel
        ]
        if after:
            kernel[place] = min(after)


def _main(graph: SourceGraph, places: Sequence[int]) -> int:
    return max(places, key=lambda place: (graph.nodes[place].macs or 0, -place))


def told_by_graph(graph: SourceGraph, made: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """By node name in the graph that ONNX Runtime made: the numbered operators that it stands for."""
    nodes = [_with_own_names(graph, node) for node in made.graph.node]
    ends = [_ends(graph, node) for node in nodes]
    owned = {place for places in ends for place in places}
    same: dict[str, str] = {}
    found: dict[str, tuple[int, ...]] = {}
    for node, places in zip(nodes, ends, strict=True):
        inputs = {same.get(name, name) for name in node.input}
        if not places:
            if node.input and node.output:
                same[node.output[0]] = same.get(node.input[0], node.input[0])
            found[node.name] = ()
            continue
        found[node.name] = tuple(sorted(_closure(graph, places, inputs, owned)))
        for name in node.output:
            if name not in graph.makers and graph.nodes[places[-1]].outputs:
                same[name] = graph.nodes[places[-1]].outputs[0]
    return found


def _with_own_names(graph: SourceGraph, node: onnx.NodeProto) -> onnx.NodeProto:
    """The node, its tensors called as in the model: those of numbered operators are "@place@number"."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for side in (copy.input, copy.output):
        for at, name in enumerate(side):
            found = _TENSOR.fullmatch(name)
            if found and int(found[1]) < len(graph.nodes):
                outputs = graph.nodes[int(found[1])].outputs
                side[at] = outputs[int(found[2])] if int(found[2]) < len(outputs) else name
    return copy


def _ends(graph: SourceGraph, node: onnx.NodeProto) -> list[int]:
    """The operators whose results this node gives: by the tensors that kept their names, or by its own name."""
    if node.op_type in _INSERTED:
        return []
    kept = [graph.makers[name] for name in node.output if name in graph.makers]
    named = [place for place in numbers_in(node.name) if place < len(graph.nodes)]
    if not kept and not named:
        named = [place for name in node.output for place in numbers_in(name) if place < len(graph.nodes)][:1]
    return sorted(set(kept or named))


def _closure(graph: SourceGraph, places: Sequence[int], inputs: set[str], owned: set[int]) -> set[int]:
    """Back from the results to what the node reads; not into what ends the product before it, such as an activation."""
    found, waiting = set(places), list(places)
    while waiting:
        node = graph.nodes[waiting.pop()]
        for name in node.inputs:
            maker = graph.makers.get(name)
            if name in inputs or maker is None or maker in found or maker in owned or graph.is_folded(maker):
                continue
            if node.op not in _TAILS and _ends_another(graph, maker, owned):
                continue
            found.add(maker)
            waiting.append(maker)
    return found


def _ends_another(graph: SourceGraph, place: int, owned: set[int]) -> bool:
    """Whether this is an addition or activation behind a product that another kernel computes."""
    waiting, seen = [place], set[int]()
    while waiting:
        at = waiting.pop()
        seen.add(at)
        if graph.nodes[at].op in KINDS and at in owned:
            return True
        if graph.nodes[at].op in _TAILS:
            before = [graph.makers[name] for name in graph.nodes[at].inputs if name in graph.makers]
            waiting += [maker for maker in before if maker not in seen]
    return False
