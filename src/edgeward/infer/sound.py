"""Waveforms: another length, another rate, log-mel energies and MFCC."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import WrongInput
from edgeward.records.model import LogMel, Resample

Array = NDArray[Any]

_CROSSINGS, _BETA, _ROLL_OFF = 32, 9.0, 0.91
"""Aliases stay 85 dB below; what is kept reaches 0.82 of half the lower rate before it falls."""
_AT_ONCE = 512
"""So many fit the caches, and the allocator keeps their place: several times as fast as whole megabytes."""
_BLAS_ALONE = 200_000
"""OpenBLAS takes threads from 262,144 multiplications on."""


def fit_length(wave: Array, samples: int) -> Array:
    if len(wave) >= samples:
        return wave[:samples]
    return np.pad(wave, (0, samples - len(wave)))


def resample(wave: Array, step: Resample) -> Array:
    if wave.ndim != 1:
        raise WrongInput(f"resample wants a mono waveform, the sample is {'x'.join(map(str, wave.shape))}")
    if step.from_hz == step.to_hz:
        return wave
    shared = math.gcd(step.from_hz, step.to_hz)
    up, down = step.to_hz // shared, step.from_hz // shared
    filters = resampling_filters(up, down)
    reach = filters.shape[1] // 2
    count = -(-len(wave) * up // down)
    padded = np.pad(wave.astype(np.float32), (reach - 1, reach + 1))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach)
    parts = [np.zeros(0, np.float32)]
    for first in range(0, count, _AT_ONCE):
        places = np.arange(first, min(first + _AT_ONCE, count)) * down
        near = windows[places // up]
        parts.append(np.einsum("ij,ij->i", near, filters[places % up]))  # not by BLAS: see _product
    return np.concatenate(parts)


@lru_cache(maxsize=8)
def resampling_filters(up: int, down: int) -> NDArray[np.float32]:
    """One row for each place between two values of the input, as many as `up`: the weights of the values around it.

    Each row sums to 1, so that a constant stays what it is.
    """
    cutoff = min(1.0, up / down) * _ROLL_OFF
    reach = math.ceil(_CROSSINGS / cutoff)
    away = np.arange(1 - reach, reach + 1)[None] - np.arange(up)[:, None] / up
    inside = np.clip(1 - (away * cutoff / _CROSSINGS) ** 2, 0, None)
    weights = np.sinc(away * cutoff) * np.i0(_BETA * np.sqrt(inside)) * (inside > 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)  # type: ignore[no-any-return]


def log_mel(wave: Array, step: LogMel) -> NDArray[np.float32]:
    """Frames × mels: ln(mel power + floor), float32. Periodic Hann window, no centring, no area normalisation."""
    if len(wave) < step.frame_length:
        raise WrongInput(
            f"log_mel wants at least {step.frame_length} samples, the recording has {len(wave)}",
            hint="put a fit_length step before it",
        )
    window, bank = mel_tables(step)
    frames = np.lib.stride_tricks.sliding_window_view(wave, step.frame_length)[:: step.hop_length]
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    return np.log(_product(power, bank) + step.floor).astype(np.float32)


def _product(rows: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """rows @ matrix, in parts that BLAS multiplies in this thread. It would wake others for more, and wait for them:
    up to 20 times as long where the CPUs have other work, as they have beside a model."""
    count = max(1, _BLAS_ALONE // matrix.size)
    return np.concatenate([rows[first : first + count] @ matrix for first in range(0, len(rows), count)])


@lru_cache(maxsize=8)
def mel_tables(step: LogMel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The window, and the filter bank as FFT bins × mels: triangles evenly spaced on the HTK mel scale,
    mel = 2595 log10(1 + f / 700) (Young et al., The HTK Book)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(step.frame_length) / step.frame_length)
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (step.low_hz, step.high_hz))
    edges = 700 * (10 ** (np.linspace(low, high, step.mel_count + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(step.frame_length, 1 / step.sample_rate)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return window, np.maximum(0, np.minimum(rising, falling))


def mfcc(energies: Array, count: int) -> NDArray[np.float32]:
    if energies.ndim != 2 or energies.shape[1] < count:
        shape = "x".join(map(str, energies.shape))
        raise WrongInput(
            f"mfcc wants frames of at least {count} mel energies, the sample is {shape}",
            hint="put a log_mel step before it",
        )
    return (energies @ cosines(energies.shape[1], count)).astype(np.float32)


@lru_cache(maxsize=8)
def cosines(mels: int, count: int) -> NDArray[np.float64]:
    """Mels × coefficients: the first `count` columns of the orthonormal DCT-II."""
    angles = np.pi / mels * np.outer(np.arange(mels) + 0.5, np.arange(count))
    scales = np.sqrt(np.where(np.arange(count) == 0, 1, 2) / mels)
    return np.cos(angles) * scales
