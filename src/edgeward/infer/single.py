"""The shortest way of one sample through a model: what stands around a small one's kernels is a share of its time.

A kernel leaves the interpreter's own code cold in the caches, so that each call after it costs several times what it
costs alone: the fewer, the better.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.records.model import TensorSpec


class Single(NamedTuple):
    """For a model of one input. `run` takes the tensor of one sample, of this `dtype` and `shape`, which it does not
    check, and gives one array for each output; none of them has a batch axis. It raises what a session's `run` does."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    run: Callable[[NDArray[Any]], list[NDArray[Any]]]


def single_spec(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> TensorSpec | None:
    """The input of a model that can be run so: its only one, fixed but for a batch of one or of any size, of numbers,
    where each output has a batch axis and another one."""
    if len(inputs) != 1 or any(len(spec.shape) < 2 or not _is_one(spec.shape[0]) for spec in (*inputs, *outputs)):
        return None
    (spec,) = inputs
    fixed = all(isinstance(dim, int) for dim in spec.shape[1:])
    return spec if fixed and spec.dtype not in ("string", "bfloat16") else None


def _is_one(batch: int | str) -> bool:
    return batch == 1 or isinstance(batch, str)
