"""Whether a changed model answers nearer to the float model than another, on samples that nothing was fitted to."""

from collections.abc import Sequence

import numpy as np
import onnx

from edgeward.infer import Predictor, Sample, runtimes
from edgeward.optimize.wiring import Array
from edgeward.records.model import Preprocess

_SURE = 2.0
"""Standard errors."""


def share_gained(
    wanted: onnx.ModelProto,
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    samples: Sequence[Sample],
    preprocess: Preprocess,
) -> float:
    """The share of the answers' squared error that `after` takes away from `before`; 0 where that may be chance."""
    of_wanted, of_before, of_after = (_answers(model, samples, preprocess) for model in (wanted, before, after))
    worse = np.array([_squared(got, asked) for got, asked in zip(of_before, of_wanted, strict=True)])
    better = np.array([_squared(got, asked) for got, asked in zip(of_after, of_wanted, strict=True)])
    gains = worse - better
    if len(gains) < 2 or not gains.mean() > _SURE * gains.std(ddof=1) / np.sqrt(len(gains)):
        return 0.0
    return float(gains.mean() / worse.mean())


def _answers(model: onnx.ModelProto, samples: Sequence[Sample], preprocess: Preprocess) -> list[list[Array]]:
    session = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)
    predictor = Predictor(session, preprocess=preprocess)
    return [list(predictor.answer(sample).outputs.values()) for sample in samples]


def _squared(got: list[Array], wanted: list[Array]) -> float:
    pairs = zip(got, wanted, strict=True)
    return sum(float(np.square(np.subtract(one, other, dtype=np.float64)).sum()) for one, other in pairs)
