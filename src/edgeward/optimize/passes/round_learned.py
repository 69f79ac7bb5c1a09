"""Learned rounding: each weight goes to the grid point below or above, whichever serves the layer's output best.

After Nagel, Amjad, van Baalen, Louizos and Blankevoort, "Up or Down? Adaptive Rounding for Post-Training Quantization"
(AdaRound, ICML 2020, arXiv:2004.10568). Its objective, layer by layer, is the mean squared error of W̃·x, which is
Δw·G·Δw for each output, with G = E[x·xᵀ] over calibration samples: a choice between two values for each weight. The
paper relaxes the choice and descends with Adam; on G itself, exact descent by one weight at a time needs no learning
rate and a hundredth of the time, and stops where no single flip helps.

It runs before a pass that quantises, on the same grid (per_channel, reduce_range, bits): that pass finds the weights
on its grid already. Other samples judge against rounding to the nearest; without a gain beyond chance it steps aside.
"""

import numpy as np
import onnx

from edgeward.kit.errors import WrongInput
from edgeward.optimize.grams import Layer, layers_of, with_grams
from edgeward.optimize.nearness import share_gained
from edgeward.optimize.passes.base import Context, DoesNotApply, Pass, Passed
from edgeward.optimize.wiring import Array, Wiring, attribute
from edgeward.records.candidate import Step

_SAMPLES = 128
_JUDGING = 128
_FEWEST = 4
_SWEEPS = 20
_ON_GRID = 1e-3


class RoundLearned:
    """Options: per_channel (true), reduce_range (false), bits (8; 2 to 8)."""

    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:
        options = {"per_channel": True, "reduce_range": False, "bits": 8, **step.options}
        if options["bits"] not in range(2, 9):
            raise WrongInput(f"round-learned: bits is {options['bits']!r}, wanted 2 to 8")
        count = min(_SAMPLES, len(context.samples) // 2)
        learned, judging = context.samples[:count], context.samples[count : count + _JUDGING]
        if count < _FEWEST:
            raise DoesNotApply(f"{len(context.samples)} calibration samples are too few, wanted {2 * _FEWEST}")
        nearest, ours = Wiring(model), Wiring(model)
        layers = layers_of(ours)
        if not layers:
            raise DoesNotApply("there is no Conv, Gemm or MatMul with constant weights in it")
        flipped = 0
        for layer, gram in with_grams(model, layers, learned, context.preprocess):
            scale = _scale(layer.weight, bool(options["per_channel"]), _reach(options))
            plain = np.rint(layer.weight / scale)
            best = plain if gram is None else chosen(layer.weight, scale, gram.astype(np.float64))
            flipped += int((best != plain).sum())
            for wiring, values in ((nearest, plain), (ours, best)):
                _write(wiring, layer, values * scale)
        gained = share_gained(model, nearest.model, ours.model, judging, context.preprocess)
        if not gained:
            raise DoesNotApply("learned rounding would not bring the answers nearer to the float model's beyond chance")
        note = (
            f"{flipped} of {sum(layer.weight.size for layer in layers)} weights rounded the other way: on other "
            f"samples, the squared error of rounding the weights fell by {gained:.0%}"
        )
        return Passed(ours.model, context.preprocess, (note,))


def chosen(weight: Array, scale: Array, gram: Array) -> Array:
    """Whole numbers, each the one below or above weight / scale, so that no single other choice makes
    Σ Δw·G·Δw smaller. `weight` is groups × outputs × inputs, `gram` groups × inputs × inputs."""
    exact = weight / scale
    values = np.rint(exact)
    other = np.where(values > exact, values - 1, values + 1)
    other = np.where(np.abs(values - exact) < _ON_GRID, values, other)
    slope = ((values - exact) * scale) @ gram
    step = (other - values) * scale
    for _ in range(_SWEEPS):
        flips = 0
        for place in range(weight.shape[2]):
            by = step[:, :, place]
            helps = 2 * by * slope[:, :, place] + by * by * gram[:, place, place, None] < 0
            if not helps.any():
                continue
            flips += int(helps.sum())
            slope += np.where(helps, by, 0.0)[:, :, None] * gram[:, place, None, :]
            values[:, :, place] += np.where(helps, np.rint(by / scale[:, :, 0]), 0.0)
            step[:, :, place] = np.where(helps, -by, by)
        if not flips:
            break
    return values


def _reach(options: dict[str, bool | int | float | str]) -> int:
    """The largest whole number of a weight, as ONNX Runtime's symmetric grid has it."""
    bits = int(options["bits"])
    return int(2 ** (bits - 2)) if options["reduce_range"] else int(2 ** (bits - 1)) - 1


def _scale(weight: Array, per_channel: bool, reach: int) -> Array:
    largest = np.abs(weight).max(axis=2 if per_channel else None, keepdims=True)
    scale = np.where(largest > 0, largest / reach, 1.0)
    return np.asarray(np.broadcast_to(scale, (*weight.shape[:2], 1)))


def _write(wiring: Wiring, layer: Layer, values: Array) -> None:
    node = wiring.makers[layer.node.output[0]]
    old = wiring.constant(node, 1)
    if old is not None:
        turned = node.op_type != "Conv" and not attribute(node, "transB", 0)
        new = values[0].T if turned else values.reshape(old.shape)
        wiring.set_constant(node, 1, new.astype(np.float32))


plugin: Pass = RoundLearned()
