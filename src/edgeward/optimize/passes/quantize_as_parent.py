"""Writes the quantised weights into the deployed version's file: its scales, order and names stay, and as many of its
stored weights as keep each layer's output where plain rounding would. The update is a small delta."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgeward.infer import runtimes
from edgeward.kit.errors import Unsupported
from edgeward.optimize import exporters, passes
from edgeward.optimize.exporters import Exported
from edgeward.optimize.grams import Layer, grams_of, layers_of
from edgeward.optimize.parent import Parent, Stored, Weights, check_alike, graft, read_stored
from edgeward.optimize.passes.base import Context, Pass, Passed
from edgeward.optimize.wiring import Wiring, attribute
from edgeward.records.candidate import Step

_SAMPLES = 64
_HEAVY = ("Conv", "Gemm", "MatMul")


class QuantizeAsParent:
    """Options: slack, how many times the error of plain rounding a layer may have; parent, its bundle's digest. It
    follows the steps that quantised the parent."""

    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:  # noqa: ARG002 - `write` has them
        if context.parent is None or context.unquantised is None:
            raise Unsupported("there is no parent to quantise like", hint="edgeward optimize … --parent BUNDLE")
        return Passed(model, context.preprocess)

    def write(self, model: onnx.ModelProto, step: Step, context: Context) -> Exported:
        parent, given = context.parent, context.unquantised
        if parent is None or given is None:
            raise Unsupported("there is no parent to quantise like", hint="edgeward optimize … --parent BUNDLE")
        theirs, new = parent.stored(), _stored(model, parent, context)
        check_alike(theirs, new)
        pairs = _pairs(given, model)
        order = [_stored(plane, parent, context) for plane in _planes(model, pairs)]
        grams = grams_of(given, [pair.layer for pair in pairs], context.samples[:_SAMPLES], context.preprocess)
        weights = dict(_exact(new, order, pairs, grams))
        grafted = graft(theirs, new, weights, float(step.options.get("slack", 1.0)))
        share = 100 * grafted.kept_count / max(grafted.weight_count, 1)
        notes = [f"{share:.1f} % of {grafted.weight_count} weights are stored as in the parent, with its scales"]
        if grafted.renewed_scale_count:
            notes.append(f"{grafted.renewed_scale_count} scales of weights are new: the parent's no longer fit")
        return Exported(grafted.data, tuple(notes))


class Pair(NamedTuple):
    """A layer with exact weights, and the name of its stored ones in the quantised model."""

    layer: Layer
    stored: str


def _stored(model: onnx.ModelProto, parent: Parent, context: Context) -> Stored:
    """The file that the parent's exporter makes of a quantised model."""
    stripped = passes.load("strip").apply(model, Step(use="strip"), context).model
    exporter = exporters.load(runtimes.load(parent.runtime).formats[0])
    return read_stored(exporter.export(stripped).data, parent.format)


def _pairs(given: onnx.ModelProto, quantised: onnx.ModelProto) -> list[Pair]:
    """The layers whose weights are stored in eight bits, in the order they run."""
    ours, theirs = Wiring(given), Wiring(quantised)
    heavy = [[node for node in wiring.graph.node if node.op_type in _HEAVY] for wiring in (ours, theirs)]
    if [node.op_type for node in heavy[0]] != [node.op_type for node in heavy[1]]:
        return []
    layers = {layer.node.output[0]: layer for layer in layers_of(ours)}
    found: dict[str, Pair] = {}
    for before, after in zip(*heavy, strict=True):
        maker, layer = theirs.makers.get(after.input[1]), layers.get(before.output[0])
        if maker is None or layer is None:
            continue
        stored, weight = theirs.constant(maker, 0), ours.constant(before, 1)
        if stored is not None and weight is not None and stored.dtype == np.int8 and stored.shape == weight.shape:
            found.setdefault(maker.input[0], Pair(layer, maker.input[0]))
    return list(found.values())


def _planes(quantised: onnx.ModelProto, pairs: list[Pair]) -> Iterator[onnx.ModelProto]:
    """The model with the number of each weight in its place, one byte of the number after the other.

    Whatever an exporter does to the order of weights it does to these: so each place in its file can be told.
    """
    count = sum(pair.layer.weight.size for pair in pairs)
    for byte in range(max(1, (count.bit_length() + 7) // 8)):
        copy = onnx.ModelProto()
        copy.CopyFrom(quantised)
        tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
        start = 0
        for pair in pairs:
            tensor, size = tensors[pair.stored], pair.layer.weight.size
            numbers = (np.arange(start, start + size) >> (8 * byte) & 255).astype(np.uint8).view(np.int8)
            tensor.CopyFrom(numpy_helper.from_array(numbers.reshape(tuple(tensor.dims)), pair.stored))
            start += size
        yield copy


def _exact(
    new: Stored, order: list[Stored], pairs: list[Pair], grams: dict[str, NDArray[np.float64]]
) -> Iterator[tuple[int, Weights]]:
    """The exact weights of each constant that holds a layer's, by its number in the file."""
    sizes = [pair.layer.weight.size for pair in pairs]
    ends = np.cumsum(sizes)
    for number, constant in enumerate(new.constants):
        planes = [one.constants[number].values for one in order]
        if constant.values.dtype != np.int8 or all(np.array_equal(plane, constant.values) for plane in planes):
            continue
        numbers = sum(plane.view(np.uint8).astype(np.int64) << (8 * byte) for byte, plane in enumerate(planes))
        index = int(np.searchsorted(ends, np.ravel(numbers)[0], side="right"))
        local = np.asarray(numbers) - (ends[index] - sizes[index])
        layer = pairs[index].layer
        where = np.empty(sizes[index], np.int64)
        where[local.reshape(-1)] = np.arange(sizes[index])
        rows = _rows(layer)
        exact = np.empty(sizes[index])
        exact[rows.reshape(-1)] = layer.weight.reshape(-1)
        yield number, Weights(exact[local], where[rows], grams.get(layer.node.output[0]))


def _rows(layer: Layer) -> NDArray[np.int64]:
    """Groups × outputs × inputs of a layer, as places in its weights as the graph has them."""
    groups, outputs, inputs = layer.weight.shape
    if layer.node.op_type == "Conv" or attribute(layer.node, "transB", 0):
        return np.arange(layer.weight.size).reshape(groups, outputs, inputs)
    return np.arange(layer.weight.size).reshape(inputs, outputs).T[None]


plugin: Pass = QuantizeAsParent()
