"""Quantises as the deployed version was quantised, and writes the new weights into its file: the scales, the order and
the names stay the parent's, and so do the stored weights that have hardly moved. The update is a small delta."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgeward.infer import runtimes
from edgeward.kit.errors import Unsupported
from edgeward.optimize import exporters, passes
from edgeward.optimize.parent import RESIDUAL_STEPS, graft
from edgeward.optimize.parent.deployed import read_stored
from edgeward.optimize.passes.base import Context, Pass, Passed
from edgeward.records.candidate import Step

_OWN_OPTIONS = ("way", "reach", "parent")
_FARTHEST = 1.25
"""Rounding moves a weight by less than so many steps, learned rounding too."""


class QuantizeAsParent:
    """Options: way, the pass that quantised the parent, and its options; reach, how many steps a weight may be off;
    parent, the digest of its bundle."""

    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:
        parent = context.parent
        if parent is None:
            raise Unsupported("there is no parent to quantise like", hint="edgeward optimize … --parent BUNDLE")
        exporter = exporters.load(runtimes.load(parent.runtime).formats[0])
        way, reach = str(step.options.get("way", "quantize-static")), float(step.options.get("reach", 0.5))
        options = {name: value for name, value in step.options.items() if name not in _OWN_OPTIONS}
        made = passes.load(way).apply(model, Step(use=way, options=options), context)
        strip = passes.load("strip")
        new, rest = (
            read_stored(exporter.export(strip.apply(one, Step(use="strip"), context).model).data, parent.format)
            for one in (made.model, residuals(made.model, model))
        )
        grafted = graft(parent.stored(), new, rest, reach)
        share = 100 * grafted.kept_count / max(grafted.weight_count, 1)
        notes = [f"{share:.1f} % of {grafted.weight_count} weights are stored as in the parent, with its scales"]
        if grafted.renewed_scale_count:
            notes.append(f"{grafted.renewed_scale_count} scales of weights are new: the parent's no longer fit")
        return Passed(made.model, made.preprocess, (*made.notes, *notes), file=grafted.data)


def residuals(quantised: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """`quantised` with, in place of each weight, what rounding took from that of `model`, in hundredths of a step.

    Whatever an exporter does to weights it does to these: so the exact weights can be told in the order of its file.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(quantised)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    floats = [numpy_helper.to_array(one) for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
    for name, steps in _in_steps(copy, tensors, floats):
        stored = numpy_helper.to_array(tensors[name])
        rest = np.rint((steps - stored) * RESIDUAL_STEPS)
        tensors[name].CopyFrom(numpy_helper.from_array(np.clip(rest, -127, 127).astype(stored.dtype), name))
    return copy


def _in_steps(
    model: onnx.ModelProto, tensors: Mapping[str, onnx.TensorProto], floats: list[NDArray[Any]]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Each stored weight around zero whose real values are known, with those in its steps."""
    done = set[str]()
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in tensors or node.input[0] in done:
            continue
        stored = numpy_helper.to_array(tensors[node.input[0]])
        if stored.dtype != np.int8:
            continue
        done.add(node.input[0])
        scale = numpy_helper.to_array(tensors[node.input[1]]).astype(np.float64)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        if scale.size > 1:
            scale = scale.reshape([-1 if place == axis % stored.ndim else 1 for place in range(stored.ndim)])
        for real in floats:
            if real.shape == stored.shape and np.abs((steps := real / scale) - stored).max(initial=0) < _FARTHEST:
                yield node.input[0], steps
                break


plugin: Pass = QuantizeAsParent()
