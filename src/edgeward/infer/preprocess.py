"""Raw sample to input tensor. The one copy: calibration, evaluation, self-test and serving all use it."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer.geometry import inner_size
from edgeward.kit.errors import WrongInput
from edgeward.records.model import (
    CenterCrop,
    ColorOrder,
    FitLength,
    LogMel,
    Normalize,
    Preprocess,
    PreprocessStep,
    Resize,
    ToLayout,
)  # fmt: skip

Array = NDArray[Any]
_PAD_GREY = 114  # what letterboxing detectors are trained with


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


def _compile(step: PreprocessStep) -> Callable[[Array], Array]:
    match step:
        case Resize():
            return lambda image: _resize(image, step)
        case CenterCrop():
            return lambda image: _center_crop(image, step)
        case ColorOrder():
            return (lambda image: image[..., ::-1]) if step.order == "BGR" else (lambda image: image)
        case Normalize():
            return _normalize(step)
        case ToLayout():
            return (lambda image: image.transpose(2, 0, 1)) if step.layout == "NCHW" else (lambda image: image)
        case FitLength():
            return lambda wave: _fit_length(wave, step.samples)
        case LogMel():
            return lambda wave: log_mel(wave, step)


def _normalize(step: Normalize) -> Callable[[Array], Array]:
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


def _resize(image: Array, step: Resize) -> Array:
    height, width = image.shape[:2]
    if (height, width) == (step.height, step.width):
        return image
    if not step.keep_aspect:
        return _scaled(image, step.height, step.width)
    inner_height, inner_width = inner_size(step, height, width)
    top, left = (step.height - inner_height) // 2, (step.width - inner_width) // 2
    canvas = np.full((step.height, step.width, image.shape[2]), _PAD_GREY, np.uint8)
    canvas[top : top + inner_height, left : left + inner_width] = _scaled(image, inner_height, inner_width)
    return canvas


def _scaled(image: Array, height: int, width: int) -> Array:
    from PIL import Image

    squeezed = image[:, :, 0] if image.shape[2] == 1 else image
    resized = Image.fromarray(squeezed).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.uint8).reshape(height, width, image.shape[2])


def _center_crop(image: Array, step: CenterCrop) -> Array:
    height, width = image.shape[:2]
    if height < step.height or width < step.width:
        raise WrongInput(f"center_crop wants at least {step.height}x{step.width}, the image is {height}x{width}")
    top, left = (height - step.height) // 2, (width - step.width) // 2
    return image[top : top + step.height, left : left + step.width]


def _fit_length(wave: Array, samples: int) -> Array:
    if len(wave) >= samples:
        return wave[:samples]
    return np.pad(wave, (0, samples - len(wave)))


def log_mel(wave: Array, step: LogMel) -> NDArray[np.float32]:
    """Frames × mels: ln(mel power + floor), float32. Periodic Hann window, no centring, no area normalisation."""
    if len(wave) < step.frame_length:
        raise WrongInput(
            f"log_mel wants at least {step.frame_length} samples, the recording has {len(wave)}",
            hint="put a fit_length step before it",
        )
    window, bank = _mel_tables(step)
    frames = np.lib.stride_tricks.sliding_window_view(wave, step.frame_length)[:: step.hop_length]
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    return np.log(power @ bank + step.floor).astype(np.float32)


@lru_cache(maxsize=8)
def _mel_tables(step: LogMel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The window, and the filter bank as FFT bins × mels: triangles evenly spaced on the HTK mel scale,
    mel = 2595 log10(1 + f / 700) (Young et al., The HTK Book)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(step.frame_length) / step.frame_length)
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (step.low_hz, step.high_hz))
    edges = 700 * (10 ** (np.linspace(low, high, step.mel_count + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(step.frame_length, 1 / step.sample_rate)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return window, np.maximum(0, np.minimum(rising, falling))
