"""What two model files of one format are compared by: how they are built, and the constants they hold."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Scale(NamedTuple):
    """real = step · (stored - zero); one pair, or one for each slice along `axis`."""

    step: NDArray[np.float32]
    zero: NDArray[Any]
    axis: int

    def along(self, rank: int) -> "Scale":
        """Shaped so that it meets an array of `rank` dimensions."""
        if self.step.size == 1:
            return Scale(self.step.reshape(()), self.zero.reshape(-1)[0], 0)
        shape = [1] * rank
        shape[self.axis] = -1
        return Scale(self.step.reshape(shape), np.broadcast_to(self.zero, self.step.shape).reshape(shape), self.axis)


class Constant(NamedTuple):
    """One use of stored values. Uses with one `place` share them, and those with one `scale_place` their scale."""

    place: int | str
    values: NDArray[Any]
    scale: Scale | None = None
    scale_place: int | str | None = None


class Bias(NamedTuple):
    """The bias of a layer: which constant its weights are, and the step of the layer's result, where it has one."""

    weight: int
    result_step: float | None


class Stored(Protocol):
    """A decoded model file. `signature` has one line for each operator; equal ones mean that the constants of two
    files stand for each other, one by one. `biases` are those of layers, by their number among the constants."""

    signature: tuple[str, ...]
    constants: tuple[Constant, ...]
    biases: Mapping[int, Bias]

    def rewritten(self, values: Mapping[int, NDArray[Any]], steps: Mapping[int, NDArray[np.float32]]) -> bytes:
        """The same file with other values and steps for the constants of these numbers; not a byte else moves."""
        ...
