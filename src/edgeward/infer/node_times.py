"""What profilers of runtimes have in common."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from edgeward.infer.tensors import Tensors
from edgeward.records.model import TensorSpec


class NodeTime(NamedTuple):
    """What a runtime says of one node that it ran: its name there, the kernel, where and in what, and its median time.

    `is_conversion`: it only moves a tensor from one layout to another for the sake of its neighbours.
    """

    name: str
    kernel: str
    placement: str
    time_ms: float
    is_conversion: bool = False


class Profile(Protocol):
    """A loaded model whose runs are timed node by node."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    def run(self, feeds: Tensors) -> None: ...

    def node_times(self) -> tuple[NodeTime, ...]:
        """The nodes in the order they ran; one for all of the model from a runtime that keeps no account of each.

        Called once, after the last run.
        """
        ...


def undisturbed(times: Sequence[float], share: float = 0.5) -> float:
    """The mean of the fastest `share` without the very fastest twentieth: what other work on the machine adds is left
    out, and it is finer than the whole microseconds that profilers tell."""
    ordered = np.sort(np.asarray(times, np.float64))
    low, high = len(ordered) // 20, max(1, math.ceil(len(ordered) * share))
    return float(ordered[min(low, high - 1) : high].mean())
