"""What a pass promises: a changed copy of a model, and what it did."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeward.infer import Sample
from edgeward.kit.errors import Unsupported
from edgeward.optimize.exporters import Exported
from edgeward.optimize.parent import Parent
from edgeward.records.candidate import Step
from edgeward.records.model import Preprocess, SampleKind

RAW_FLOAT = "edgeward_raw_float"
"""The tensor, in a graph that takes raw bytes, that holds their values as floats: scale 1, zero point 0 are exact."""

STAYS_FLOAT = "edgeward_float/"
"""How the names of operators begin that a quantiser leaves in float."""


class Context(NamedTuple):
    """What a pass may know besides the model: raw calibration samples, what they are, the preprocessing steps that
    still stand between them and the graph, class numbers where the samples have them, the model as it was before a
    pass of this recipe quantised it, and the deployed version. What a quantiser found out about the samples it leaves
    in `ranges`, by a digest of all that it hangs on, for the next recipe that asks for the same."""

    samples: Sequence[Sample]
    kind: SampleKind
    preprocess: Preprocess
    seed: int = 0
    labels: NDArray[np.int64] | None = None
    unquantised: onnx.ModelProto | None = None
    parent: Parent | None = None
    ranges: dict[bytes, bytes] | None = None


class Passed(NamedTuple):
    """What came out: the model, the steps that are still left outside it, and notes for the report."""

    model: onnx.ModelProto
    preprocess: Preprocess
    notes: tuple[str, ...] = ()


class DoesNotApply(Unsupported):
    """The pass has nothing to do on this model: its recipe would be another one's twin, and is left out."""


class Pass(Protocol):
    """Takes a model and gives another that answers the same, or as nearly as its docstring says."""

    def apply(self, model: onnx.ModelProto, step: Step, context: Context) -> Passed:
        """Never changes `model` itself. Raises Unsupported, with the reason, where it has nothing to offer."""
        ...


@runtime_checkable
class Writer(Pass, Protocol):
    """A pass that ends a recipe and writes the runtime's file itself; `apply` leaves the model as it is."""

    def write(self, model: onnx.ModelProto, step: Step, context: Context) -> Exported:
        """The file, with notes. Raises Unsupported, with the reason, where it has nothing to offer."""
        ...
