"""Ranges of activations by least squared error: what clipping loses and what rounding loses, weighed on histograms.

Wider ranges round more coarsely, narrower ones clip more. For values x with a histogram, a range [a, b] in n steps of
d = (b − a) / n loses d²/12 for each value inside it, nothing for zero itself, which is always a grid point, and
(x − a)² or (x − b)² outside (Sung, Shin and Hwang 2015, arXiv:1511.06488; Nagel et al. 2021, arXiv:2106.08295,
section 3.1).
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, quantize_static
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator

from edgeward.kit.errors import Unsupported

STAND_IN = CalibrationMethod.Entropy
"""What the quantiser takes the ranges for: it knows no method of this name."""
_BINS = 2048
_SHARES = np.linspace(0.2, 1.0, 41)


def takes_ranges() -> bool:
    """Whether this quantiser knows a file of known ranges."""
    return "calibration_cache_path" in inspect.signature(quantize_static).parameters


def save_ranges(model: Path, reader: CalibrationDataReader, operators: Sequence[str], file: Path) -> None:
    """The ranges of all values that `operators` read or make, in the quantiser's file of known ranges."""
    if not takes_ranges():
        raise Unsupported(
            "this ONNX Runtime takes no ranges from outside, which method mse needs",
            hint="pip install --upgrade onnxruntime",
        )
    from onnxruntime.quantization.calibrate import save_tensors_data

    calibrator = create_calibrator(
        model, list(operators), augmented_model_path=str(file.with_suffix(".onnx")), calibrate_method=STAND_IN,
        extra_options={"num_bins": _BINS},
    )  # fmt: skip
    while (feeds := reader.get_next()) is not None:
        calibrator.collect_data(_One(feeds))
    found: dict[str, Any] = {}
    for name, (counts, edges, least, largest, _) in calibrator.collector.histogram_dict.items():
        low, high = best_range(counts, edges, float(least), float(largest))
        found[name] = (np.array(low, np.float32), np.array(high, np.float32), counts, edges)
    save_tensors_data(TensorsData(STAND_IN, found), file)


class _One(CalibrationDataReader):  # type: ignore[misc]  # the library ships no types
    """One sample: the calibrator keeps what the model makes of all that it is given at once."""

    def __init__(self, feeds: Any) -> None:
        self._feeds = [feeds]

    def get_next(self) -> Any:
        return self._feeds.pop() if self._feeds else None


def best_range(
    counts: NDArray[Any], edges: NDArray[Any], least: float, largest: float, *, steps: int = 255
) -> tuple[float, float]:
    """The range, with zero in it, that loses least; `least` and `largest` bound the values."""
    low, high = min(0.0, least), max(0.0, largest)
    if not np.isfinite([low, high]).all() or low == high:
        return low, high
    middles = (edges[:-1] + edges[1:]) / 2
    weights = np.asarray(counts, np.float64)
    is_zero = (edges[:-1] <= 0) & (edges[1:] >= 0)

    def lost(a: float, b: float) -> float:
        inside = (middles >= a) & (middles <= b) & ~is_zero
        outside = np.maximum(0, np.maximum(a - middles, middles - b))
        return float(weights[inside].sum() * ((b - a) / steps) ** 2 / 12 + (weights * outside**2).sum())

    for _ in range(2):
        high = min((high * share for share in _SHARES), key=lambda bound: lost(low, bound))
        low = min((low * share for share in _SHARES), key=lambda bound: lost(bound, high))
    return low, high
