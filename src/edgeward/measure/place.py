"""Where candidates run and are timed: here, or on a device."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import read_npz
from edgeward.measure import bench
from edgeward.measure.isolated import IsolatedSession
from edgeward.measure.jobs import Contender, SoloResult


class Place(Protocol):
    """A machine that measures. Files of contenders lie on this machine; a place far away fetches them."""

    def measure_alone(self, contender: Contender, *, seconds: float = 0.2) -> SoloResult:
        """Load, first and steady inference and peak memory in a fresh process. Raises Failed when it crashes."""

    def race(self, contenders: Sequence[Contender], *, seconds: float, seed: int) -> list[NDArray[np.float64]]:
        """Milliseconds of each contender, rounds × runs, taken in turn."""

    def answers(self, contender: Contender) -> list[list[NDArray[Any]]]:
        """The contender's outputs for each of its samples, in that machine's own arithmetic."""


class Here:
    """This machine, in processes of their own."""

    def measure_alone(self, contender: Contender, *, seconds: float = 0.2) -> SoloResult:
        return bench.measure_alone(contender, seconds=seconds)

    def race(self, contenders: Sequence[Contender], *, seconds: float, seed: int) -> list[NDArray[np.float64]]:
        return bench.race(contenders, seconds=seconds, seed=seed)

    def answers(self, contender: Contender) -> list[list[NDArray[Any]]]:
        columns = read_npz(Path(contender.feeds))
        count = len(next(iter(columns.values())))
        with IsolatedSession(contender.file, contender.runtime, contender.threads) as session:
            return [
                session.run({name: column[index : index + 1] for name, column in columns.items()})
                for index in range(count)
            ]


HERE: Place = Here()
