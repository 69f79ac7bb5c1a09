"""Samples in files: images, recordings and arrays, one by one or a folder of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.infer import Sample, read_image, read_npz, read_wav
from edgeward.infer.samples import IMAGE_SUFFIXES
from edgeward.kit.errors import WrongInput
from edgeward.records.model import TensorSpec
from edgeward.serve.arrival import Arrival, Wanted, broken

_SUFFIXES = {"image": IMAGE_SUFFIXES, "audio": frozenset({".wav"}), "tensor": frozenset({".npz"})}
_WORDS = {"image": "images", "audio": "recordings", "tensor": "arrays"}


def arrivals(place: Path, wanted: Wanted) -> Iterator[Arrival]:
    """Everything in `place`, sorted by name. Raises WrongInput at once where nothing of it can be answered."""
    if not place.exists():
        raise WrongInput(f"{place}: no such file or folder")
    if not place.is_dir():
        return of_file(place, wanted)
    files = files_in(place, wanted)
    if not files:
        told = ", ".join(sorted(_SUFFIXES[wanted.kind]))
        raise WrongInput(f"{place}: there is no {wanted.kind} in this folder; wanted {told}")
    return (arrival for file in files for arrival in of_file_among_others(file, wanted))


def files_in(folder: Path, wanted: Wanted) -> list[Path]:
    """Its files of the model's kind, and those of its subfolders, sorted by name; hidden ones are left out."""
    suffixes = _SUFFIXES[wanted.kind]
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()
    )


def of_file_among_others(file: Path, wanted: Wanted) -> Iterator[Arrival]:
    """The samples of a file; one that fails when it is read, where the file cannot be opened."""
    try:
        yield from of_file(file, wanted)
    except (WrongInput, OSError) as error:
        yield broken(str(file), error)


def of_file(file: Path, wanted: Wanted) -> Iterator[Arrival]:
    """The samples of one file. Raises WrongInput where it is of another kind."""
    suffix = file.suffix.lower()
    if suffix == ".npz":
        return of_arrays(str(file), read_npz(file), wanted)
    if suffix not in _SUFFIXES[wanted.kind]:
        told = ", ".join(sorted({*_SUFFIXES[wanted.kind], ".npz"}))
        raise WrongInput(f"{file}: {wanted.name} takes {_WORDS[wanted.kind]}; wanted {told}")
    name = wanted.inputs[0].name
    read = _read_image if wanted.kind == "image" else _read_wav
    return iter([Arrival(str(file), lambda: {name: read(file, wanted)})])


def _read_image(file: Path, wanted: Wanted) -> Any:
    return read_image(file, channels=wanted.channels)


def _read_wav(file: Path, wanted: Wanted) -> Any:
    wave, rate_hz = read_wav(file)
    if wanted.sample_rate_hz not in (None, rate_hz):
        raise WrongInput(
            f"{file}: sampled at {rate_hz} Hz, {wanted.name} takes {wanted.sample_rate_hz} Hz",
            hint=f"sox {file} -r {wanted.sample_rate_hz} OUT.wav",
        )
    return wave


def of_arrays(where: str, arrays: dict[str, Any], wanted: Wanted) -> Iterator[Arrival]:
    """One sample for each row of the arrays. Raises WrongInput where one is missing or has another shape."""
    columns = {spec.name: _column(where, arrays, spec, alone=len(wanted.inputs) == 1) for spec in wanted.inputs}
    counts = {len(column) for column in columns.values()}
    if len(counts) > 1:
        told = ", ".join(f"{name!r} {len(column)}" for name, column in columns.items())
        raise WrongInput(f"{where}: its arrays have different numbers of samples: {told}")
    if counts == {0}:
        raise WrongInput(f"{where}: there are no samples in it")
    return (
        Arrival(f"{where}[{index}]", lambda index=index: _finite(where, index, columns, wanted))  # type: ignore[misc]
        for index in range(counts.pop())
    )


def _column(where: str, arrays: dict[str, Any], spec: TensorSpec, *, alone: bool) -> Any:
    array = arrays.get(spec.name, arrays.get("x") if alone else None)
    if array is None:
        raise WrongInput(f"{where}: wanted an array {spec.name!r}; it has {', '.join(arrays) or 'none'}")
    fits = array.ndim == len(spec.shape) + 1 and all(
        isinstance(want, str) or have == want for have, want in zip(array.shape[1:], spec.shape, strict=True)
    )
    if not fits:
        asked, got = ("x".join(map(str, shape)) for shape in (("N", *spec.shape), array.shape))
        raise WrongInput(f"{where}: {spec.name!r} is {got or 'one number'}; wanted {asked}, samples on the first axis")
    kinds = "US" if spec.dtype == "string" else "fiub"
    if array.dtype.kind not in kinds or (array.dtype.kind == "f" and not spec.dtype.startswith("float")):
        raise WrongInput(f"{where}: {spec.name!r} is {array.dtype}; wanted {spec.dtype}")
    return array


def _finite(where: str, index: int, columns: dict[str, Any], wanted: Wanted) -> Sample:
    sample = {name: column[index] for name, column in columns.items()}
    for name, array in sample.items():
        if array.dtype.kind == "f" and not (np.isfinite(array) | (wanted.missing & np.isnan(array))).all():
            raise WrongInput(f"{where}[{index}]: {name!r} holds a value that is not finite (NaN or infinity)")
    return sample
