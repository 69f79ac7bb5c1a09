"""New weights in the place of the parent's: its scales and order stay, and of its stored values those that are near.

Rules only. A weight keeps the parent's stored value while it lies less than `reach` steps from it; with 0.5 that is
plain rounding, with more a weight that has moved a little does not move in the file. A bias keeps its value while what
it would add stays under the rounding of the layer's result.
"""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported
from edgeward.optimize.parent.stored import Constant, Scale, Stored

RESIDUAL_STEPS = 100
"""Residuals are told in hundredths of a step, so that one that reaches over a whole step still fits a byte."""
_BIAS_SHARE = 0.25
"""Of a step of the layer's result, for each whole step that weights may be off."""
_CLIPPED, _WASTED = 1.1, 0.5
"""A scale is kept while the largest weight reaches from half of its range to a tenth over it."""


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


def graft(parent: Stored, new: Stored, residual: Stored, reach: float) -> Grafted:
    """The parent's file with the weights of `new`.

    `residual` is `new` with, in place of each quantised weight, what rounding took from it in hundredths of a step.
    Raises Unsupported where the files are not built alike.
    """
    check_alike(parent, new)
    check_alike(new, residual)
    values: dict[int, NDArray[Any]] = {}
    steps: dict[int, NDArray[np.float32]] = {}
    kept = count = renewed = 0
    scale_uses = Counter(one.scale_place for one in parent.constants)
    for number, theirs in enumerate(parent.constants):
        mine = new.constants[number]
        if theirs.scale is None or mine.scale is None or theirs.values.dtype.itemsize != 1:
            continue
        exact, scale = _exact(mine, residual.constants[number]), theirs.scale
        if scale_uses[theirs.scale_place] == 1:
            scale = fitting_scale(exact, mine, scale)
        if scale is not theirs.scale:
            steps[number] = scale.step
            renewed += int((scale.step != theirs.scale.step).sum())
        values[number] = near(in_steps(exact, scale), theirs.values, reach)
        kept += int((values[number] == theirs.values).sum())
        count += theirs.values.size
    _graft_biases(parent, new, values, steps, reach)
    _take_the_rest(parent, new, values)
    changed = {key: value for key, value in values.items() if not np.array_equal(value, parent.constants[key].values)}
    return Grafted(parent.rewritten(changed, steps), count, kept, renewed)


def near(wanted: NDArray[np.float64], before: NDArray[Any], reach: float | NDArray[Any]) -> NDArray[Any]:
    """`before` where `wanted` lies less than `reach` from it, else the nearest whole number that fits its type."""
    limits = np.iinfo(before.dtype)
    rounded = np.clip(np.rint(wanted), max(limits.min, -limits.max) if limits.min else 0, limits.max)
    return np.where(np.abs(wanted - before) < reach, before, rounded).astype(before.dtype)


def in_steps(exact: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """Real numbers as stored ones, not rounded yet."""
    shaped = scale.along(exact.ndim)
    return np.asarray(exact / shaped.step.astype(np.float64) + shaped.zero)


def fitting_scale(exact: NDArray[np.float64], mine: Constant, theirs: Scale) -> Scale:
    """The parent's scale, with the fresh one in the slices that it would clip or leave half of its range to."""
    if mine.scale is None or mine.scale.step.shape != theirs.step.shape or (theirs.zero != 0).any():
        return theirs
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(np.abs(exact).max() > 0, mine.scale.step / theirs.step, 1.0)
    renewed = (ratio > _CLIPPED) | (ratio < _WASTED)
    return theirs._replace(step=np.where(renewed, mine.scale.step, theirs.step)) if renewed.any() else theirs


def _exact(mine: Constant, rest: Constant) -> NDArray[np.float64]:
    """The real weights: stored values and what rounding took from them; the stored ones where that is not known."""
    if mine.scale is None:
        raise ValueError("only quantised constants have exact values")
    shaped = mine.scale.along(mine.values.ndim)
    stored = mine.values.astype(np.float64) - shaped.zero
    if not np.array_equal(mine.values, rest.values):
        stored += rest.values.astype(np.float64) / RESIDUAL_STEPS
    return np.asarray(stored * shaped.step.astype(np.float64))


def _graft_biases(
    parent: Stored, new: Stored, values: dict[int, NDArray[Any]], steps: dict[int, NDArray[np.float32]], reach: float
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
        shaped = mine.scale.along(mine.values.ndim)
        exact = (mine.values.astype(np.float64) - shaped.zero) * shaped.step.astype(np.float64)
        wanted = in_steps(exact, scale)
        allowed = 0.5 if bias.result_step is None else _BIAS_SHARE * reach * bias.result_step / scale.along(1).step
        values[number] = near(wanted, theirs.values, np.maximum(allowed, 0.5))


def _take_the_rest(parent: Stored, new: Stored, values: dict[int, NDArray[Any]]) -> None:
    """What is not quantised is taken as it is. What the parent stores once for several uses must still be one."""
    wanted: dict[int | str, NDArray[Any]] = {}
    for number, constant in enumerate(parent.constants):
        mine = values.setdefault(number, new.constants[number].values)
        if not np.array_equal(wanted.setdefault(constant.place, mine), mine):
            raise Unsupported("the parent stores one constant for two layers, which differ in this model")
