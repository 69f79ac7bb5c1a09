"""Raw sample to input tensor. The one copy: calibration, evaluation, self-test and serving all use it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import pixels, signals, sound
from edgeward.kit.errors import WrongInput
from edgeward.records.model import (
    CenterCrop,
    ColorOrder,
    Crop,
    Detrend,
    FftFeatures,
    FitLength,
    Grey,
    LogMel,
    Mfcc,
    Normalize,
    OneHot,
    Preprocess,
    PreprocessStep,
    Resample,
    Resize,
    SampleKind,
    Standardize,
    ToLayout,
    Window,
)  # fmt: skip

Array = NDArray[Any]
Applied = Callable[[Array], Array]
"""A step as it is applied to a sample."""


class Preprocessor:
    """Applies `steps` to one raw sample (no batch axis). Raises WrongInput when a step does not fit it."""

    def __init__(self, steps: Preprocess) -> None:
        self._steps = tuple(_compile(step) for step in steps)

    def __call__(self, sample: Array) -> Array:
        for step in self._steps:
            sample = step(sample)
        return sample


def output_of(steps: Preprocess, sample: Array) -> tuple[tuple[int, ...], str]:
    """The shape and dtype that `steps` make of a sample like this one."""
    tensor = Preprocessor(steps)(sample)
    return tensor.shape, str(tensor.dtype)


def kind_of(steps: Preprocess) -> SampleKind | None:
    """What the steps work on, where that is clear from them."""
    if any(isinstance(step, FitLength | Resample | LogMel | Mfcc) for step in steps):
        return "audio"
    if any(isinstance(step, Resize | CenterCrop | Crop | Grey | ColorOrder | ToLayout) for step in steps):
        return "image"
    if any(isinstance(step, Window | Detrend | FftFeatures | Standardize | OneHot) for step in steps):
        return "tensor"
    return None


def rate_hz(steps: Preprocess) -> int | None:
    """The rate at which waveforms must come, None where no step says it."""
    for step in steps:
        if isinstance(step, Resample):
            return step.from_hz
        if isinstance(step, LogMel):
            return step.sample_rate
    return None


def takes_missing(steps: Preprocess) -> bool:
    """Whether a value of the raw sample may be missing (NaN)."""
    return any(isinstance(step, Standardize) and step.fill is not None for step in steps)


def raw_shape(shape: tuple[int, ...], steps: Preprocess, kind: SampleKind) -> tuple[int | str, ...]:
    """The shape of raw samples of which one has `shape`: lengths that the steps take as they come have a name."""
    if kind == "image" and any(isinstance(step, Resize | CenterCrop | Crop) for step in steps):
        return ("height", "width", *shape[2:])
    if kind == "audio" and any(isinstance(step, FitLength | Resample | LogMel | Window) for step in steps):
        return ("samples",)
    if kind == "tensor" and any(isinstance(step, Window) for step in steps):
        return ("rows", *shape[1:])
    return shape


def _compile(step: PreprocessStep) -> Applied:
    if isinstance(step, Resize | CenterCrop | Crop | Grey | ColorOrder | ToLayout):
        return _of_images(step)
    if isinstance(step, FitLength | Resample | LogMel | Mfcc):
        return _of_waveforms(step)
    return _of_rows(step)


def _of_images(step: Resize | CenterCrop | Crop | Grey | ColorOrder | ToLayout) -> Applied:
    match step:
        case Resize():
            return partial(pixels.resize, step=step)
        case CenterCrop():
            return partial(pixels.center_crop, step=step)
        case Crop():
            return partial(pixels.crop, step=step)
        case Grey():
            return partial(pixels.grey, step=step)
        case ColorOrder():
            return (lambda image: image[..., ::-1]) if step.order == "BGR" else _same
        case ToLayout():
            return (lambda image: image.transpose(2, 0, 1)) if step.layout == "NCHW" else _same


def _of_waveforms(step: FitLength | Resample | LogMel | Mfcc) -> Applied:
    match step:
        case FitLength():
            return partial(sound.fit_length, samples=step.samples)
        case Resample():
            return partial(sound.resample, step=step)
        case LogMel():
            return partial(sound.log_mel, step=step)
        case Mfcc():
            return partial(sound.mfcc, count=step.count)


def _of_rows(step: Normalize | Window | Detrend | FftFeatures | Standardize | OneHot) -> Applied:
    match step:
        case Normalize():
            return _normalize(step)
        case Window():
            return partial(signals.newest, step=step)
        case Detrend():
            return partial(signals.detrend, step=step)
        case FftFeatures():
            return signals.fft_features(step)
        case Standardize():
            return signals.standardize(step)
        case OneHot():
            return signals.one_hot(step)


def _same(sample: Array) -> Array:
    return sample


def _normalize(step: Normalize) -> Applied:
    std = np.asarray(step.std, np.float64)
    gain = (step.scale / std).astype(np.float32)
    offset = (-np.asarray(step.mean, np.float64) / std).astype(np.float32)

    def apply(sample: Array) -> Array:
        if gain.size > 1 and sample.shape[-1] != gain.size:
            raise WrongInput(
                f"normalize has {gain.size} values, one per channel; the sample has {sample.shape[-1]} channels"
            )
        return np.add(np.multiply(sample, gain, dtype=np.float32), offset, dtype=np.float32)

    return apply
