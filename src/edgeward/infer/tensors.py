"""Tensors by name, as models take them."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from edgeward.kit.errors import WrongInput
from edgeward.records.model import TensorSpec

Tensors = Mapping[str, NDArray[Any]]


def check(feeds: Tensors, inputs: Sequence[TensorSpec]) -> None:
    """Raises WrongInput where `feeds` are not what `inputs` ask for: one is missing, of another type or shape, or
    strange."""
    for spec in inputs:
        value = feeds.get(spec.name)
        if value is None:
            raise WrongInput(f"input {spec.name!r} is missing")
        if value.dtype != spec.dtype:
            raise WrongInput(f"input {spec.name!r} is {spec.dtype}, got {value.dtype}")
        if not fits(value.shape, spec.shape):
            raise WrongInput(f"input {spec.name!r} has shape {list(spec.shape)}, got {list(value.shape)}")
    if len(feeds) > len(inputs):
        strange = next(iter(set(feeds) - {spec.name for spec in inputs}))
        raise WrongInput(f"the model has no input {strange!r}")


def fits(shape: tuple[int, ...], wanted: tuple[int | str, ...]) -> bool:
    """Whether `shape` is a `wanted` one, in which a name stands for any size."""
    return len(shape) == len(wanted) and all(
        isinstance(want, str) or got == want for want, got in zip(wanted, shape, strict=True)
    )
