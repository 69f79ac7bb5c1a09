"""Readings that come one by one to the samples of a model: each of them, or the last so many as a window."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Sample
from edgeward.kit.errors import WrongInput
from edgeward.serve.arrival import Wanted
from edgeward.serve.payload import cast


class Windows:
    """For a model whose only input is `C` numbers each reading is a sample. For one of `N × C` (or `N` numbers of one
    channel) the last N readings are, each time that `hop` more have come (default: N, windows side by side)."""

    def __init__(self, wanted: Wanted, hop: int | None) -> None:
        spec = wanted.inputs[0]
        if len(wanted.inputs) != 1 or wanted.kind != "tensor" or len(spec.shape) not in (1, 2):
            raise WrongInput(
                f"{wanted.name} does not take readings: wanted a model with one input of numbers, or readings x numbers"
            )
        self._spec = spec
        self._wanted = wanted
        self._hop = hop
        self._rows: deque[NDArray[Any]] | None = None
        self._new = 0

    def add(self, reading: Sequence[float], source: str) -> Sample | None:
        """The sample that this reading completes, if it does. Raises WrongInput where it does not fit the others."""
        row = np.asarray(reading, np.float64)
        if not np.isfinite(row).all():
            raise WrongInput(f"{source}: this reading holds a value that is not finite (NaN or infinity)")
        shape = self._spec.shape
        if len(shape) == 1 and (shape[0] == len(row) or isinstance(shape[0], str)) and not self._is_series(row):
            return self._sample(row, source)
        columns = shape[1] if len(shape) == 2 else 1
        if isinstance(columns, int) and len(row) != columns:
            raise WrongInput(f"{source}: this reading has {len(row)} numbers; wanted {columns}")
        return self._windowed(row, shape, source)

    def _is_series(self, row: NDArray[Any]) -> bool:
        """One number at a time, for a model of several."""
        return len(row) == 1 and self._spec.shape[0] != 1

    def _windowed(self, row: NDArray[Any], shape: tuple[int | str, ...], source: str) -> Sample | None:
        length = shape[0]
        if isinstance(length, str):
            raise WrongInput(f"{self._wanted.name} takes windows of any length; wanted a fixed one for readings")
        if self._rows is None:
            self._rows = deque(maxlen=length)
        self._rows.append(row)
        self._new += 1
        if len(self._rows) < length or self._new < (self._hop or length):
            return None
        self._new = 0
        window = np.stack(self._rows)
        return self._sample(window if len(shape) == 2 else window[:, 0], source)

    def _sample(self, array: NDArray[Any], source: str) -> Sample:
        return {self._spec.name: cast(array, self._spec, source)}

    def clear(self) -> None:
        """A gap: what came before it belongs to no window with what comes after."""
        if self._rows is not None:
            self._rows.clear()
        self._new = 0
