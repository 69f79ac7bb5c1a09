"""From a raw uint8 frame to a model's input tensor, in the numpy that a good engineer writes for it by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
from bench.optimize_vs_peers.engines import Port
from numpy.typing import NDArray

from edgeward.infer import Preprocessor
from edgeward.records.model import CenterCrop, ColorOrder, Normalize, Preprocess, Resize, ToLayout

Array = NDArray[Any]


def preparation(steps: Preprocess, port: Port) -> Callable[[Array], Array]:
    """One function from frame to tensor with its batch axis. Scaling, layout and quantisation are done in one pass.

    Raises ValueError for steps that are no image's.
    """
    if strange := [
        step for step in steps if not isinstance(step, Resize | CenterCrop | ColorOrder | Normalize | ToLayout)
    ]:
        raise ValueError(f"a {type(strange[0]).__name__} is no step of an image")
    spatial = tuple(step for step in steps if isinstance(step, Resize | CenterCrop | ColorOrder))
    planar = any(isinstance(step, ToLayout) and step.layout == "NCHW" for step in steps)
    gain, offset = _affine(steps, port)
    arrange = _arranged(planar)
    number = _numeric(gain, offset, port, planar)
    if not spatial:
        return lambda frame: number(arrange(frame))[None]
    place = Preprocessor(spatial)
    return lambda frame: number(arrange(place(frame)))[None]


def _affine(steps: Preprocess, port: Port) -> tuple[Array, Array]:
    """tensor = frame × gain + offset, per channel."""
    gain, offset = np.ones(1), np.zeros(1)
    for step in steps:
        if isinstance(step, Normalize):
            std = np.asarray(step.std)
            gain, offset = gain * step.scale / std, (offset * step.scale - np.asarray(step.mean)) / std
    if port.scale:
        gain, offset = gain / port.scale, offset / port.scale + port.zero_point
    return gain, offset


def _arranged(planar: bool) -> Callable[[Array], Array]:
    return (lambda frame: frame.transpose(2, 0, 1)) if planar else (lambda frame: frame)


def _numeric(gain: Array, offset: Array, port: Port, planar: bool) -> Callable[[Array], Array]:
    dtype = np.dtype(port.dtype)
    if np.all(gain == 1) and np.all(offset == 0):
        return lambda frame: np.ascontiguousarray(frame, dtype)
    if dtype == np.int8 and np.allclose(gain, 1, atol=1e-6) and np.allclose(offset, -128, atol=1e-4):
        return lambda frame: np.ascontiguousarray(frame ^ np.uint8(128)).view(np.int8)
    shape = (-1, 1, 1) if planar else (-1,)
    factor, shift = gain.astype(np.float32).reshape(shape), offset.astype(np.float32).reshape(shape)

    def scaled(frame: Array) -> Array:
        tensor = np.multiply(frame, factor, dtype=np.float32, order="C")
        tensor += shift
        return tensor

    if dtype.kind == "f":
        return lambda frame: scaled(frame).astype(dtype, copy=False)
    limits = np.iinfo(dtype)

    def quantised(frame: Array) -> Array:
        tensor = scaled(frame)
        np.rint(tensor, out=tensor)
        return np.clip(tensor, limits.min, limits.max, out=tensor).astype(dtype)

    return quantised
