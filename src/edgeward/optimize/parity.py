"""Does a converted model answer as its original? Proved on samples before anything else is done with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer.runtimes import Session
from edgeward.kit.errors import Failed
from edgeward.optimize.readers import Original

_ALLOWED = 0.02
"""Of the largest answer, on the worst sample: float models differ by far less."""
_ALLOWED_ROUNDING = 0.1
"""Of the largest answer, on the mean of the samples, for a quantised original: LiteRT's own two sets of kernels round
differently, and differ by 0.029 so on MLPerf Tiny's resnet8 (200 photographs, 0.36 on the worst)."""


def prove(
    original: Original,
    session: Session,
    samples: Sequence[Mapping[str, NDArray[Any]]],
    *,
    is_quantized: bool = False,
) -> str:
    """A note of how near the answers are. `samples` have no batch axis. Raises Failed where they are not the same.

    A quantised original is judged by the mean over the samples: one rounding may tip a single close answer.
    """
    worsts: list[float] = []
    largest = 0.0
    same = 0
    for sample in samples:
        feeds = {name: tensor[None] for name, tensor in sample.items()}
        for expected, got in zip(original(feeds), session.run(feeds), strict=True):
            if expected.shape != got.shape:
                raise Failed(f"after conversion the model answers {got.shape}, the original {expected.shape}")
            difference = np.abs(expected.astype(np.float64) - got)
            worsts.append(float(difference.max(initial=0.0)))
            largest = max(largest, float(np.abs(expected.astype(np.float64)).max(initial=0.0)))
            same += int(expected.argmax() == got.argmax()) if expected.size else 1
    count = max(1, len(samples) * len(session.outputs))
    worst = max(worsts, default=0.0, key=lambda value: (value != value, value))  # NaN is the worst
    judged, allowed = (sum(worsts) / count, _ALLOWED_ROUNDING) if is_quantized else (worst, _ALLOWED)
    if not judged <= allowed * max(largest, 1e-6):
        raise Failed(
            f"after conversion to ONNX the answers differ by up to {worst:.3g} (largest answer {largest:.3g}): "
            "nothing was optimised on such ground"
        )
    return (
        f"parity with the original file: answers differ by at most {worst:.2g} (largest answer {largest:.3g}), "
        f"the same best output on {same} of {count} samples"
    )
