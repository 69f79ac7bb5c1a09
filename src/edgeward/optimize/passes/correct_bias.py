"""Empirical bias correction: takes the mean error that rounding made in each layer's output out of the layer's bias.

After Nagel, van Baalen, Blankevoort and Welling, "Data-Free Quantization Through Weight Equalization and Bias
Correction" (ICCV 2019, arXiv:1906.04721), section 4.2 and appendix D: b' = b + E[W·x + b] − E[W̃·x̃ + b], channel by
channel, before the activation, layer after layer, so that each sees the inputs that the corrected ones before it give.
The means are over calibration samples. It works on QuantizeLinear/DequantizeLinear pairs. Other samples judge: where
the answers do not come nearer to those of the float model beyond chance, the pass steps aside.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from edgeward.infer import Predictor, Sample, runtimes
from edgeward.optimize.nearness import share_gained
from edgeward.optimize.passes.base import Context, DoesNotApply, Pass, Passed
from edgeward.optimize.wiring import Array, Wiring, attribute, making
from edgeward.records.candidate import Step
from edgeward.records.model import Preprocess

_SAMPLES = 48
_JUDGING = 144
_FEWEST = 4
_LAYERS = 120
"""Each layer costs a run of the samples up to it."""


class CorrectBias:
    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:  # noqa: ARG002 - no options
        if context.unquantised is None:
            raise DoesNotApply("nothing was quantised before it in this recipe")
        count = min(_SAMPLES, len(context.samples) // 2)
        learned, judging = context.samples[:count], context.samples[count : count + _JUDGING]
        if count < _FEWEST:
            raise DoesNotApply(f"{len(context.samples)} calibration samples are too few, wanted {2 * _FEWEST}")
        pairs = _layers(context.unquantised, model)
        wiring = Wiring(model)
        of_floats = _means(context.unquantised, [given for given, _ in pairs], learned, context.preprocess)
        for (_, name), wanted in zip(pairs, of_floats, strict=True):
            node = wiring.makers[name]
            mean = _means(wiring.model, [name], learned, context.preprocess)[0]
            _shift(wiring, node, wanted - mean)
        gained = share_gained(context.unquantised, model, wiring.model, judging, context.preprocess)
        if not gained:
            raise DoesNotApply("the answers would not come nearer to those of the float model beyond chance")
        note = (
            f"the mean error of {len(pairs)} layers went into their biases: on other samples the answers' squared "
            f"error fell by {gained:.0%}"
        )
        return Passed(wiring.model, context.preprocess, (note,))


def _layers(given: onnx.ModelProto, quantised: onnx.ModelProto) -> list[tuple[str, str]]:
    """Outputs of the layers that were rounded, in both models, in the order they run. Raises DoesNotApply for none."""
    ours, theirs = Wiring(given), Wiring(quantised)
    heavy = [[n for n in wiring.graph.node if n.op_type in ("Conv", "Gemm")] for wiring in (ours, theirs)]
    found = []
    if [node.op_type for node in heavy[0]] == [node.op_type for node in heavy[1]]:
        for before, after in zip(*heavy, strict=True):
            weight, rounding = ours.constant(before, 1), theirs.makers.get(after.input[1])
            stored = None if rounding is None else theirs.constant(rounding, 0)
            if weight is not None and stored is not None and stored.shape == weight.shape:
                found.append((before.output[0], after.output[0]))
    if not 0 < len(found) <= _LAYERS:
        raise DoesNotApply(f"{len(found)} of its layers hold rounded weights, wanted 1 to {_LAYERS}")
    return found


def _means(
    model: onnx.ModelProto, values: Sequence[str], samples: Sequence[Sample], preprocess: Preprocess
) -> list[Array]:
    """The mean of each value, for each of its channels."""
    session = runtimes.load("onnxruntime").load(making(model, values).SerializeToString(), threads=1)
    predictor = Predictor(session, preprocess=preprocess)
    sums: list[Array] = []
    for sample in samples:
        answers = predictor.answer(sample).outputs
        means = [np.asarray(answers[name], np.float64) for name in values]
        means = [value.reshape(len(value), -1).mean(axis=1) for value in means]
        sums = [old + new for old, new in zip(sums, means, strict=True)] if sums else means
    return [total / len(samples) for total in sums]


def _shift(wiring: Wiring, node: onnx.NodeProto, by: Array) -> None:
    """Adds to the layer's bias, rounded as it is stored."""
    if node.op_type == "Gemm":
        by = by / (attribute(node, "beta", 1.0) or 1.0)
    if wiring.is_left_out(node, 2):
        _add_bias(wiring, node, by)
        return
    bias = wiring.constant(node, 2)
    if bias is not None:
        wiring.set_constant(node, 2, (bias + by.reshape(bias.shape)).astype(bias.dtype))
        return
    rounding = wiring.makers[node.input[2]]
    stored, scale = wiring.constant(rounding, 0), wiring.constant(rounding, 1)
    if stored is None or scale is None or stored.dtype != np.int32:
        return
    steps = np.clip(stored + np.rint(by / scale), -(2**31) + 1, 2**31 - 1)
    wiring.set_constant(rounding, 0, steps.astype(np.int32))


def _add_bias(wiring: Wiring, node: onnx.NodeProto, values: Array) -> None:
    """A bias in 32 bits, with the scale that integer kernels want: that of the input times that of the weights."""
    scales = [wiring.constant(maker, 1) for name in node.input[:2] if (maker := wiring.makers.get(name)) is not None]
    if len(scales) != 2 or scales[0] is None or scales[1] is None:
        wiring.set_constant(node, 2, values.astype(np.float32))
        return
    scale = np.asarray(scales[0] * scales[1], np.float32)
    stored = np.clip(np.rint(values / scale), -(2**31) + 1, 2**31 - 1).astype(np.int32)
    name = f"{node.output[0]}_bias"
    parts = [
        wiring.add_constant(f"{name}_{part}", value)
        for part, value in (("int32", stored), ("scale", scale), ("zero", np.zeros(scale.shape, np.int32)))
    ]
    made = wiring.free_name(name)
    wiring.insert(0, helper.make_node("DequantizeLinear", parts, [made], **({"axis": 0} if scale.ndim else {})))
    while len(node.input) < 3:
        node.input.append("")
    node.input[2] = made


plugin: Pass = CorrectBias()
