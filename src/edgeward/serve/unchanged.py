"""Whether a sample differs from the last one that was answered."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Sample

_LOOKED_AT = 64
"""Rows, and columns, of an image that are compared: 64 × 64 pixels tell whether something moved, in microseconds."""


class Unchanged:
    """Tells samples whose mean difference from the last answered one is less than `threshold` of the range of values:
    255 for bytes, 1 for numbers."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._last: NDArray[Any] | None = None

    def __call__(self, sample: Sample) -> bool:
        """A sample that differs is the one that the next are compared with."""
        looked = _thinned(next(iter(sample.values())))
        last = self._last
        if last is not None and last.shape == looked.shape and _difference(last, looked) < self._threshold:
            return True
        self._last = looked
        return False


def _thinned(array: NDArray[Any]) -> NDArray[Any]:
    steps = tuple(slice(None, None, max(1, side // _LOOKED_AT)) for side in array.shape[:2])
    return np.array(array[steps])


def _difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    if one.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(one, other) else 1.0
    scale = 255.0 if one.dtype == np.uint8 else 1.0
    return float(np.abs(one.astype(np.float32) - other.astype(np.float32)).mean()) / scale
