"""Rows of sensor values, time on the first axis: windows, trends and spectra; and columns of tables."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import WrongInput
from edgeward.records.model import Detrend, FftFeatures, OneHot, Standardize, Window

Array = NDArray[Any]


def newest(rows: Array, step: Window) -> Array:
    if rows.ndim == 0 or len(rows) < step.length:
        have = "one number" if rows.ndim == 0 else len(rows)
        raise WrongInput(f"window wants at least {step.length} values or rows, the sample has {have}")
    return rows[len(rows) - step.length :]


def detrend(rows: Array, step: Detrend) -> NDArray[np.float32]:
    values = rows.astype(np.float64)
    if values.ndim == 0 or not len(values):
        raise WrongInput("detrend wants at least one row")
    values = values - values.mean(axis=0)
    if step.method == "linear" and len(values) > 1:
        time = np.arange(len(values)) - (len(values) - 1) / 2
        slope = np.tensordot(time, values, 1) / (time @ time)
        values = values - np.multiply.outer(time, slope)
    return values.astype(np.float32)  # type: ignore[no-any-return]


def fft_features(step: FftFeatures) -> Callable[[Array], NDArray[np.float32]]:
    """What makes bands × columns (or bands alone) of rows. Raises WrongInput for edges that do not rise."""
    edges = np.asarray(step.edges_hz, np.float64)
    if edges.size == 1 or (np.diff(edges) <= 0).any():
        raise WrongInput("fft_features: edges_hz are the limits of at least one band, each larger than the one before")

    def apply(rows: Array) -> NDArray[np.float32]:
        if rows.ndim not in (1, 2) or len(rows) < 2:
            shape = "x".join(map(str, rows.shape)) or "one number"
            raise WrongInput(f"fft_features wants at least two rows of sensor values, the sample is {shape}")
        power = _spectrum(rows.astype(np.float64), step.taper)
        if edges.size:
            lines = np.fft.rfftfreq(len(rows), 1 / step.sample_rate)
            inside = (lines >= edges[:-1, None]) & (lines < edges[1:, None])
            power = inside @ power
        if step.value == "log_power":
            power = np.log(power + step.floor)
        elif step.value == "magnitude":
            power = np.sqrt(power)
        return power.astype(np.float32)

    return apply


def _spectrum(rows: NDArray[np.float64], taper: str) -> NDArray[np.float64]:
    """The power of each line of one side, lines on the first axis."""
    count = len(rows)
    window = np.ones(count) if taper == "none" else 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(count) / count)
    lines = np.abs(np.fft.rfft((rows.T * window).T, axis=0)) ** 2 / window.sum() ** 2
    lines[1 : count // 2 + 1 if count % 2 else count // 2] *= 2  # all that have a twin on the other side
    return lines  # type: ignore[no-any-return]


def standardize(step: Standardize) -> Callable[[Array], NDArray[np.float32]]:
    mean, std = np.asarray(step.mean, np.float32), np.asarray(step.std, np.float32)
    fill = None if step.fill is None else np.asarray(step.fill, np.float32)
    sizes = [one.size for one in (mean, std, fill) if one is not None]
    longest = max(sizes)
    if any(size not in (1, longest) for size in sizes):
        raise WrongInput(
            f"standardize has {' and '.join(map(str, sizes))} values; wanted one per column of each, or one"
        )

    def apply(sample: Array) -> NDArray[np.float32]:
        columns = sample.shape[-1] if sample.ndim else 1
        if longest > 1 and columns != longest:
            raise WrongInput(f"standardize has {longest} values, one per column; the sample has {columns} columns")
        values = numbers_of(sample)
        if fill is not None:
            values = np.where(np.isnan(values), fill, values)
        return (values - mean) / std

    return apply


def one_hot(step: OneHot) -> Callable[[Array], Array]:
    words = [str(value) for value in step.values]
    numbers = np.asarray([value for value in step.values if not isinstance(value, str)], np.float64)
    if len(numbers) not in (0, len(words)):
        raise WrongInput("one_hot: its values are all numbers, or all strings")

    def apply(sample: Array) -> Array:
        if sample.ndim == 0 or sample.shape[-1] <= step.column:
            have = sample.shape[-1] if sample.ndim else 0
            raise WrongInput(f"one_hot takes column {step.column}, counted from 0; the sample has {have} columns")
        column = sample[..., step.column, None]
        if len(numbers):
            hot = numbers_of(column) == numbers.astype(np.float32)
        elif sample.dtype.kind in "OUS":
            hot = np.asarray(column, np.str_) == np.asarray(words)
        else:
            raise WrongInput(f"one_hot: its values are strings, the sample is {sample.dtype}")
        before, behind = sample[..., : step.column], sample[..., step.column + 1 :]
        ones = hot.astype(np.float32) if sample.dtype.kind not in "OUS" else np.where(hot, "1", "0").astype(object)
        return np.concatenate([before, ones, behind], axis=-1)

    return apply


def numbers_of(sample: Array) -> NDArray[np.float32]:
    """As float32; strings are read, an empty one as missing (NaN). Raises WrongInput for one that is no number."""
    if sample.dtype.kind not in "OUS":
        return sample.astype(np.float32, copy=False)
    texts = np.asarray(sample, np.str_)
    try:
        return np.where(np.char.strip(texts) == "", "nan", texts).astype(np.float32)
    except ValueError as error:
        raise WrongInput(f"a column holds no number: {error}", hint="put a one_hot step for it before") from error
