"""New weights in the place of the parent's: its scales and order stay, and of its stored values as many as may.

Rules only. Of a layer's weights, those go back to the parent's stored values that move the layer's output least, until
its error is `slack` times that of plain rounding; the others make up for them. A bias keeps its value while what it
would add stays under the rounding of the layer's result.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported
from edgeward.optimize.parent.closest import closest, near
from edgeward.optimize.parent.stored import Constant, Scale, Stored

_BIAS_SHARE = 0.1
"""Of a step of the layer's result: so much of a bias is lost in rounding."""
_CLIPPED, _WASTED = 1.1, 0.5
"""A scale is kept while the largest weight reaches from half of its range to a tenth over it."""
_REACH = 0.6
"""Of a step: so far a weight may be from the parent's where nothing is known of what it is multiplied by."""


class Weights(NamedTuple):
    """The exact weights of one constant, in its order. `places` are theirs as groups × outputs × inputs of a layer, and
    `gram` what those inputs are, E[x·xᵀ] for each group; None where that is not known."""

    exact: NDArray[np.float64]
    places: NDArray[np.int64] | None = None
    gram: NDArray[np.float64] | None = None


class Grafted(NamedTuple):
    """The file, and what became of the parent's values."""

    data: bytes
    weight_count: int
    kept_count: int
    renewed_scale_count: int


def check_alike(parent: Stored, new: Stored) -> None:
    """Raises Unsupported, naming the first operator, where the two files are not built alike."""
    for number, (theirs, mine) in enumerate(zip(parent.signature, new.signature, strict=False), 1):
        if theirs != mine:
            raise Unsupported(f"the parent is built differently: operator {number} is {theirs} there, {mine} here")
    if len(parent.signature) != len(new.signature):
        raise Unsupported(
            f"the parent is built differently: it has {len(parent.signature) - 1} operators, "
            f"this has {len(new.signature) - 1}"
        )


def graft(parent: Stored, new: Stored, weights: Mapping[int, Weights], slack: float) -> Grafted:
    """The parent's file with the weights of `new`; `weights` are those whose exact values are known, by the number of
    their constant. Raises Unsupported where the two files are not built alike."""
    check_alike(parent, new)
    values: dict[int, NDArray[Any]] = {}
    steps: dict[int, NDArray[np.float32]] = {}
    kept = count = renewed = 0
    scale_uses = Counter(one.scale_place for one in parent.constants)
    for number, theirs in enumerate(parent.constants):
        mine = new.constants[number]
        if theirs.scale is None or mine.scale is None or theirs.values.dtype.itemsize != 1:
            continue
        given = weights.get(number) or Weights(_exact(mine))
        scale = theirs.scale
        if scale_uses[theirs.scale_place] == 1:
            scale = fitting_scale(mine, scale)
        if scale is not theirs.scale:
            steps[number] = scale.step
            renewed += int((scale.step != theirs.scale.step).sum())
        values[number] = _weights(in_steps(given.exact, scale), theirs.values, given, slack)
        kept += int((values[number] == theirs.values).sum())
        count += theirs.values.size
    _graft_biases(parent, new, values, steps)
    _take_the_rest(parent, new, values)
    changed = {key: value for key, value in values.items() if not np.array_equal(value, parent.constants[key].values)}
    return Grafted(parent.rewritten(changed, steps), count, kept, renewed)


def _weights(wanted: NDArray[np.float64], before: NDArray[Any], given: Weights, slack: float) -> NDArray[Any]:
    if given.places is None or given.gram is None:
        return near(wanted, before, _REACH)
    made = before.reshape(-1).copy()
    rows = closest(wanted.reshape(-1)[given.places], made[given.places], given.gram, slack)
    made[given.places] = rows
    return made.reshape(before.shape)


def in_steps(exact: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """Real numbers as stored ones, not rounded yet."""
    shaped = scale.along(exact.ndim)
    return np.asarray(exact / shaped.step.astype(np.float64) + shaped.zero)


def fitting_scale(mine: Constant, theirs: Scale) -> Scale:
    """The parent's scale, with the fresh one in the slices that it would clip or leave half of its range to."""
    if mine.scale is None or mine.scale.step.shape != theirs.step.shape or (theirs.zero != 0).any():
        return theirs
    ratio = mine.scale.step / theirs.step
    renewed = (ratio > _CLIPPED) | (ratio < _WASTED)
    return theirs._replace(step=np.where(renewed, mine.scale.step, theirs.step)) if renewed.any() else theirs


def _exact(mine: Constant) -> NDArray[np.float64]:
    """The real numbers that stored ones stand for."""
    if mine.scale is None:
        raise ValueError("only quantised constants stand for real numbers")
    shaped = mine.scale.along(mine.values.ndim)
    return np.asarray((mine.values.astype(np.float64) - shaped.zero) * shaped.step.astype(np.float64))


def _graft_biases(
    parent: Stored, new: Stored, values: dict[int, NDArray[Any]], steps: dict[int, NDArray[np.float32]]
) -> None:
    """Biases are stored in steps of input times weights: where a scale of weights was renewed, so is theirs."""
    for number, bias in parent.biases.items():
        theirs, mine = parent.constants[number], new.constants[number]
        if theirs.scale is None or mine.scale is None:
            continue
        scale, weight = theirs.scale, parent.constants[bias.weight].scale
        if bias.weight in steps and weight is not None:
            step = np.broadcast_to(scale.step, weight.step.shape) * (steps[bias.weight] / weight.step)
            if step.shape == scale.step.shape:
                steps[number] = step.astype(np.float32)
                scale = scale._replace(step=steps[number])
        allowed = 0.0 if bias.result_step is None else _BIAS_SHARE * bias.result_step / scale.along(1).step
        values[number] = near(in_steps(_exact(mine), scale), theirs.values, np.maximum(allowed, 0.5))


def _take_the_rest(parent: Stored, new: Stored, values: dict[int, NDArray[Any]]) -> None:
    """What is not quantised is taken as it is. What the parent stores once for several uses must still be one."""
    wanted: dict[int | str, NDArray[Any]] = {}
    for number, constant in enumerate(parent.constants):
        mine = values.setdefault(number, new.constants[number].values)
        if not np.array_equal(wanted.setdefault(constant.place, mine), mine):
            raise Unsupported("the parent stores one constant for two layers, which differ in this model")
