"""Whole numbers near wanted ones that change as few as may be of those that were there before. Rules only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256
"""Inputs that are settled together; more would take too long."""
_PULL = 0.01
"""Of the mean of G's diagonal: calibration samples do not show all that the inputs can be."""
_MOVES = 3
"""So many moves for each weight, at most."""

Array = NDArray[np.float64]


def near(wanted: Array, before: NDArray[Any], reach: float | NDArray[Any]) -> NDArray[Any]:
    """`before` where `wanted` lies less than `reach` from it, else the nearest whole number that fits its type."""
    low, high = limits(before.dtype)
    return np.where(np.abs(wanted - before) < reach, before, np.clip(np.rint(wanted), low, high)).astype(before.dtype)


def limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """What a stored number may be: signed ones as far down as up, as kernels want it."""
    info = np.iinfo(dtype)
    return (0, int(info.max)) if info.min == 0 else (-int(info.max), int(info.max))


def closest(wanted: Array, before: NDArray[Any], gram: Array, slack: float) -> NDArray[Any]:
    """As many of `before` as keep the error Δ·G·Δ of each output within `slack` times that of plain rounding.

    Shapes are groups × outputs × inputs, `gram` groups × inputs × inputs. Greedy: again and again the number goes back
    to `before` that costs least, and those that must change anyway take a step where that makes up for it.
    """
    low, high = limits(before.dtype)
    size = wanted.shape[2]
    weight = np.trace(gram, axis1=1, axis2=2)[:, None, None] / size
    gram = np.where(weight > 0, gram, np.eye(size)) + _PULL * np.where(weight > 0, weight, 1.0) * np.eye(size)
    values = np.clip(np.rint(wanted), low, high)
    error = values - wanted
    slope = error @ gram
    cost = np.einsum("gok,gok->go", error, slope)
    allowed, extra = cost.copy(), (slack - 1) * cost
    for start in range(0, size, _BLOCK):
        part = slice(start, min(start + _BLOCK, size))
        allowed = allowed + extra * ((part.stop - part.start) / size)
        was = values[:, :, part].copy()
        cost = _settle(values[:, :, part], before[:, :, part], slope[:, :, part], gram[:, part, part], cost, allowed)
        moved = values[:, :, part] - was
        slope[:, :, : part.start] += moved @ gram[:, part, : part.start]
        slope[:, :, part.stop :] += moved @ gram[:, part, part.stop :]
    return values.astype(before.dtype)


def _settle(values: Array, before: NDArray[Any], slope: Array, gram: Array, cost: Array, allowed: Array) -> Array:
    """Moves `values` and their `slope` in place, one number of each output at a time; returns the cost they have."""
    groups, outputs = np.indices(cost.shape)
    low, high = limits(before.dtype)
    weight = np.diagonal(gram, axis1=1, axis2=2)[:, None, :]
    for _ in range(_MOVES * values.shape[2]):
        back = before - values
        is_new = back != 0
        if not is_new.any():
            break
        rise_back = np.where(is_new, back * (2 * slope + back * weight), np.inf)
        step = -np.sign(slope)
        fits = is_new & (values + step >= low) & (values + step <= high)
        rise_step = np.where(fits, weight - 2 * np.abs(slope), np.inf)
        to_back, to_step = rise_back.argmin(axis=2), rise_step.argmin(axis=2)
        rises = rise_back[groups, outputs, to_back], rise_step[groups, outputs, to_step]
        helps = (rises[1] < -1e-9) & (rises[1] < rises[0])
        place = np.where(helps, to_step, to_back)
        rise = np.where(helps, rises[1], rises[0])
        moves = helps | (cost + rise <= allowed)
        if not moves.any():
            break
        by = np.where(moves, np.where(helps, step[groups, outputs, place], back[groups, outputs, place]), 0.0)
        values[groups, outputs, place] += by
        slope += by[:, :, None] * gram[groups, place]
        cost = cost + np.where(moves, rise, 0.0)
    return cost
