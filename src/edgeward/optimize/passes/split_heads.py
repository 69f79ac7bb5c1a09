"""Heads whose branches have very different ranges are joined in float, so that each branch keeps a scale of its own.

A detector's answer has boxes in pixels beside scores of 0..1. One eight-bit scale over both is a step of half a pixel,
and of half a score: nothing is left of the scores. What stands from such a join to the answer, and what decodes its
branches behind the last layers, stays in float; it is a small share of the work.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgeward.infer import Predictor, runtimes
from edgeward.optimize.named_layers import HEAVY, with_names
from edgeward.optimize.passes.base import STAYS_FLOAT, Context, DoesNotApply, Pass, Passed
from edgeward.records.candidate import Step

_DIFFERENT = 8.0
"""Ranges so many times apart leave the smaller one under five of the eight bits."""
_SAMPLES = 16
_FUSED = ("Clip", "LeakyRelu", "Relu")
"""Integer kernels do these with the layer before, at no cost."""


class _Join(NamedTuple):
    """A Concat near the answer, and the largest magnitude of each branch."""

    node: onnx.NodeProto
    ranges: tuple[float, ...]

    @property
    def ratio(self) -> float:
        seen = [value for value in self.ranges if value > 0]
        return max(seen) / min(seen) if seen else 1.0


class SplitHeads:
    """Changes names alone: the operators that a quantiser has to leave in float are marked."""

    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:  # noqa: ARG002 - no options
        copy = with_names(model)
        if all(node.op_type not in HEAVY for node in copy.graph.node):
            raise DoesNotApply("there is no layer that could be quantised")
        tail = _tail(copy)
        joins = [node for node in tail.values() if node.op_type == "Concat"]
        if not joins:
            raise DoesNotApply("nothing is joined between the last layers and the answer")
        measured = _measured(copy, joins, context)
        widest = max(measured, key=lambda join: join.ratio)
        if widest.ratio < _DIFFERENT:
            raise DoesNotApply(f"what is joined for the answer has like ranges (at most {widest.ratio:.1f} to 1)")
        apart = [join.node for join in measured if join.ratio >= _DIFFERENT]
        kept = _kept(copy, tail, apart)
        for node in kept:
            node.name = STAYS_FLOAT + node.name
        least, most = min(value for value in widest.ranges if value > 0), max(widest.ranges)
        note = f"the last {len(kept)} operators stay in float: they join values up to {most:.3g} and up to {least:.3g}"
        return Passed(copy, context.preprocess, (note,))


def _tail(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The operators behind the last layers, by name: they read what a layer made, and no layer reads them."""
    behind, before = set[str](), set[str]()
    for node in model.graph.node:
        if node.op_type in HEAVY or behind.intersection(node.input):
            behind.update(node.output)
    for node in reversed(model.graph.node):
        if node.op_type in HEAVY or before.intersection(node.output):
            before.update(node.input)
    return {
        node.name: node
        for node in model.graph.node
        if node.op_type not in HEAVY and behind.intersection(node.output) and not before.intersection(node.output)
    }


def _measured(model: onnx.ModelProto, joins: Sequence[onnx.NodeProto], context: Context) -> list[_Join]:
    """The joins with the ranges that calibration samples give their branches; shapes that are joined are none."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    ranges = {name: _magnitude(value) for name, value in constants.items()}
    ranges |= _ranges(model, sorted({name for node in joins for name in node.input} - constants.keys()), context)
    return [_Join(node, tuple(ranges[name] for name in node.input)) for node in joins]


def _ranges(model: onnx.ModelProto, wanted: Sequence[str], context: Context) -> dict[str, float]:
    """The largest magnitude of each of these values over a few samples, 0 for what is no float."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    given = [output.name for output in watched.graph.output]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in given)
    session = runtimes.load("onnxruntime").load(watched.SerializeToString(), threads=1)
    predictor = Predictor(session, preprocess=context.preprocess)
    batches = {spec.name: spec.shape[0] if isinstance(spec.shape[0], int) else 1 for spec in session.inputs}
    names = [spec.name for spec in session.outputs]
    found = dict.fromkeys(wanted, 0.0)
    for sample in context.samples[:_SAMPLES]:
        feeds = {name: np.stack([value] * batches[name]) for name, value in predictor.tensors(sample).items()}
        told = dict(zip(names, session.run(feeds), strict=True))
        found = {name: max(most, _magnitude(told[name])) for name, most in found.items()}
    return found


def _magnitude(values: NDArray[Any]) -> float:
    if values.dtype.kind != "f" or not values.size:
        return 0.0
    finite = values[np.isfinite(values)]
    return float(np.abs(finite.astype(np.float64)).max(initial=0.0))


def _kept(
    model: onnx.ModelProto, tail: Mapping[str, onnx.NodeProto], apart: Sequence[onnx.NodeProto]
) -> list[onnx.NodeProto]:
    """The joins, what follows them, and what stands between the last layers and them for them alone."""
    kept = set(_following(tail, apart))
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.name)
    makers = {name: node for node in model.graph.node for name in node.output}
    answers = {output.name for output in model.graph.output}
    for node in reversed(model.graph.node):
        if node.name not in tail or node.name in kept or answers.intersection(node.output):
            continue
        layer = makers.get(node.input[0]) if node.input else None
        if node.op_type in _FUSED and layer is not None and layer.op_type in HEAVY:
            continue
        users = {user for name in node.output for user in readers.get(name, ())}
        if users and users <= kept:
            kept.add(node.name)
    return [node for node in model.graph.node if node.name in kept]


def _following(tail: Mapping[str, onnx.NodeProto], first: Sequence[onnx.NodeProto]) -> Iterator[str]:
    reached = {name for node in first for name in node.output}
    yield from (node.name for node in first)
    for node in tail.values():
        if reached.intersection(node.input):
            reached.update(node.output)
            yield node.name


plugin: Pass = SplitHeads()
