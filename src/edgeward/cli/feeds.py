"""What a model is fed with while it is timed: a few samples of a data set, or seeded random numbers."""

from pathlib import Path
from typing import Any

import numpy as np

from edgeward.cli.subject import Subject, open_data, predictor_for
from edgeward.kit.errors import Unsupported, WrongInput

_SAMPLES = 8


def feeds_of(subject: Subject, data: Path | None, *, verb: str, seed: int) -> list[dict[str, Any]]:
    """Inputs without the batch axis, all of the same shapes. Raises WrongInput where none can be drawn: a dimension
    besides the batch is free."""
    _check_batch(subject)
    return _real(subject, data) if data else _drawn(subject, verb, seed)


def _check_batch(subject: Subject) -> None:
    for spec in subject.session.inputs:
        if not spec.shape or spec.shape[0] not in (1, *(dim for dim in spec.shape[:1] if isinstance(dim, str))):
            first = spec.shape[0] if spec.shape else "no batch axis"
            raise Unsupported(f"{subject.path}: input {spec.name!r} has {first} on its first axis; wanted 1, or free")


def _real(subject: Subject, data: Path) -> list[dict[str, Any]]:
    """A few samples of one shape, as the model's input tensors."""
    loaded = open_data(subject, data)
    predictor = predictor_for(subject, loaded)
    feeds = [predictor.tensors(loaded[index]) for index in range(min(len(loaded), _SAMPLES))]
    return [feed for feed in feeds if all(feed[name].shape == feeds[0][name].shape for name in feed)]


def _drawn(subject: Subject, verb: str, seed: int) -> list[dict[str, Any]]:
    shapes: dict[str, tuple[tuple[int, ...], str]] = {}
    for spec in subject.session.inputs:
        if spec.dtype in ("string", "bfloat16"):
            raise Unsupported(f"{subject.path}: input {spec.name!r} takes {spec.dtype}; wanted numbers that numpy has")
        shape = tuple(dim for dim in spec.shape[1:] if isinstance(dim, int))
        if len(shape) != len(spec.shape) - 1:
            told = "x".join(map(str, spec.shape))
            raise WrongInput(
                f"{subject.path}: input {spec.name!r} is {told}, free in more than the batch: no input can be drawn",
                hint=f"edgeward {verb} {subject.path} --data DATA",
            )
        shapes[spec.name] = (shape, spec.dtype)
    generator = np.random.default_rng(seed)
    return [{name: _draw(generator, *spec) for name, spec in shapes.items()} for _ in range(_SAMPLES)]


def _draw(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Any:
    if dtype.startswith("float"):
        return generator.standard_normal(shape).astype(dtype)
    if dtype in ("int8", "uint8"):
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    # Wider integers are mostly indices or masks: 0 and 1 are valid for both.
    return generator.integers(0, 2, shape).astype(dtype)
