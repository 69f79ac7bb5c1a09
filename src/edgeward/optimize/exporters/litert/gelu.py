"""GELU as exporters spell it out, x/2 · (1 + erf(x/√2)), to one node: LiteRT has that and no erf."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import onnx
from numpy.typing import NDArray
from onnx import helper

_CLOSE = 1e-3


class _Graph(NamedTuple):
    constants: dict[str, NDArray[Any]]
    makers: dict[str, onnx.NodeProto]
    users: dict[str, list[onnx.NodeProto]]

    def number(self, name: str) -> float | None:
        value = self.constants.get(name)
        return float(value.reshape(())) if value is not None and value.size == 1 else None

    def scaled(self, node: onnx.NodeProto | None, factor: float) -> str | None:
        """What `node` multiplies by `factor`, or divides by its inverse; None when it does neither."""
        if node is None or node.op_type not in ("Mul", "Div"):
            return None
        first, second = str(node.input[0]), str(node.input[1])
        for value, constant in ((first, second), (second, first)):
            number = self.number(constant)
            if number is not None and math.isclose(
                number if node.op_type == "Mul" else 1 / (number or math.inf), factor, rel_tol=_CLOSE
            ):
                return value
            if node.op_type == "Div":
                return None
        return None

    def sole_user(self, name: str) -> onnx.NodeProto | None:
        found = self.users.get(name, [])
        return found[0] if len(found) == 1 else None


def fuse(nodes: Sequence[onnx.NodeProto], constants: dict[str, NDArray[Any]]) -> list[onnx.NodeProto]:
    """The nodes, each GELU among them as one node at the place of its last part."""
    graph = _Graph(constants, {name: node for node in nodes for name in node.output}, {})
    for node in nodes:
        for name in node.input:
            graph.users.setdefault(name, []).append(node)
    replaced: dict[str, onnx.NodeProto] = {}
    dropped: set[str] = set()
    for node in nodes:
        if node.op_type == "Erf" and (found := _gelu(graph, node)):
            source, parts = found
            last = parts[-1].output[0]
            replaced[last] = helper.make_node("Gelu", [source], [last], name=f"gelu_{last}")
            dropped.update(part.output[0] for part in parts[:-1])
    return [replaced.get(node.output[0], node) for node in nodes if node.output[0] not in dropped]


def _gelu(graph: _Graph, erf: onnx.NodeProto) -> tuple[str, list[onnx.NodeProto]] | None:
    """Its input and its nodes, the last one last; None where a part is another or is used elsewhere."""
    inner = graph.makers.get(erf.input[0])
    source = graph.scaled(inner, math.sqrt(0.5))
    plus = graph.sole_user(erf.output[0])
    if (
        inner is None
        or source is None
        or plus is None
        or plus.op_type != "Add"
        or len(graph.users[inner.output[0]]) > 1
    ):
        return None
    if 1.0 not in (graph.number(plus.input[0]), graph.number(plus.input[1])):
        return None
    times = graph.sole_user(plus.output[0])
    if times is None or times.op_type != "Mul":
        return None
    other = times.input[1] if times.input[0] == plus.output[0] else times.input[0]
    half = graph.makers.get(other)
    if graph.scaled(half, 0.5) == source and half is not None and len(graph.users[other]) == 1:
        return source, [inner, erf, plus, half, times]
    last = graph.sole_user(times.output[0])
    if other == source and last is not None and graph.scaled(last, 0.5) == times.output[0]:
        return source, [inner, erf, plus, times, last]
    if graph.number(other) is not None and last is not None and last.op_type == "Mul":
        rest = last.input[1] if last.input[0] == times.output[0] else last.input[0]
        if rest == source and graph.scaled(times, 0.5) == plus.output[0]:
            return source, [inner, erf, plus, times, last]
    return None
