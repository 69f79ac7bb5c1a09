"""What a pass promises: a changed copy of a model, and what it did."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import onnx
from numpy.typing import NDArray

from edgeward.records.candidate import Step
from edgeward.records.model import Preprocess


class Context(NamedTuple):
    """What a pass may know besides the model.

    `calibration` gives input tensors (one batch axis of length 1) and can be walked again and again;
    `preprocess` are the steps that still stand before the graph.
    """

    calibration: Iterable[Mapping[str, NDArray[Any]]]
    preprocess: Preprocess


class Passed(NamedTuple):
    """What came out: the model, the steps that are still left outside it, and notes for the report."""

    model: onnx.ModelProto
    preprocess: Preprocess
    notes: tuple[str, ...] = ()


class Pass(Protocol):
    """Takes a model and gives another that answers the same, or as nearly as its docstring says."""

    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:
        """Never changes `model` itself. Raises Unsupported, with the reason, where it has nothing to offer."""
        ...
