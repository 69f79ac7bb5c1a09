"""Data sets as people keep them: an .npz, a folder of images or recordings, a table. Raw samples and labels."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import Sample, read_image, read_npz, read_wav
from edgeward.infer.samples import IMAGE_SUFFIXES
from edgeward.kit.errors import WrongInput
from edgeward.measure.annotations import (
    AnnotationKind,
    annotations_of_arrays,
    annotations_of_folder,
    read_mask,
)
from edgeward.measure.labels import class_names_of, labels_of_files
from edgeward.measure.table import read_columns, read_table
from edgeward.records.model import Dataset, SampleKind, TensorSpec

_PLANES = 4
_CACHE_BYTES = 1_000_000_000
"""Decoded samples are kept up to this much, so that the second candidate does not decode them again."""


class LoadedSet:
    """Raw samples by index, decoded when asked for, with labels where there are any.

    `labels` are class indices (int64), or float targets with samples on the first axis; where `annotation` says so,
    boxes or masks (see Annotations). `sources` name the samples.
    """

    def __init__(
        self,
        name: str,
        kind: SampleKind,
        read: Callable[[int], Sample],
        sources: Sequence[str],
        *,
        labels: NDArray[Any] | None,
        class_names: tuple[str, ...] = (),
        sample_rate_hz: int | None = None,
        annotation: AnnotationKind | None = None,
    ) -> None:
        self.name = name
        self.kind: SampleKind = kind
        self.labels = labels
        self.class_names = class_names
        self.sources = sources
        self.sample_rate_hz = sample_rate_hz
        self.annotation = annotation
        self._read = read
        self._kept: dict[int, Sample] = {}
        self._kept_bytes = 0
        self._fingerprints: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self._read(index)
        size = sum(array.nbytes for array in sample.values())
        if self._kept_bytes + size <= _CACHE_BYTES:
            self._kept[index] = sample
            self._kept_bytes += size
        return sample

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def part(self, indices: NDArray[np.int64]) -> "LoadedSet":
        """The samples at `indices`, in that order."""
        chosen = indices.tolist()
        return LoadedSet(
            self.name, self.kind, lambda index: self[chosen[index]], [self.sources[index] for index in chosen],
            labels=None if self.labels is None else self.labels[indices],
            class_names=self.class_names, sample_rate_hz=self.sample_rate_hz, annotation=self.annotation,
        )  # fmt: skip

    def fingerprints(self) -> list[bytes]:
        """One digest per sample, of its values: equal samples are found by it, whatever their files are called."""
        if self._fingerprints is None:
            self._fingerprints = [
                hashlib.sha256(
                    b"".join(np.ascontiguousarray(sample[name]).tobytes() for name in sorted(sample))
                ).digest()
                for sample in self
            ]
        return self._fingerprints

    def label_bytes(self) -> bytes:
        """The values of all labels, in order: equal for equal labels, wherever their files are."""
        if self.labels is None:
            return b""
        if self.annotation == "masks":
            masks = [read_mask(label) for label in self.labels]
            return b"".join(b"%d,%d" % mask.shape + mask.tobytes() for mask in masks)
        return np.ascontiguousarray(self.labels).tobytes()

    def record(self, purpose: str) -> Dataset:
        """What a report says of this data."""
        whole = hashlib.sha256(b"".join(sorted(self.fingerprints()))).hexdigest()
        return Dataset(
            name=self.name, purpose="calibration" if purpose == "calibration" else "evaluation", kind=self.kind,
            samples=f"sha256:{whole}", sample_count=len(self), class_count=len(self.class_names),
        )  # fmt: skip


def open_dataset(
    path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec] = (), *, missing: bool = False
) -> LoadedSet:
    """The data set at `path` for a model with these inputs (shapes without the batch axis). Where values may be
    `missing`, NaN stands for them in an .npz.

    Raises WrongInput, in one sentence, for what is missing, empty, unreadable, of the wrong name, shape or dtype,
    not finite, or has labels of another length.
    """
    if not path.exists():
        raise WrongInput(f"{path}: no such data set")
    if path.is_dir():
        return _open_folder(path, inputs)
    match path.suffix.lower():
        case ".npz":
            return _open_npz(path, inputs, outputs, missing=missing)
        case ".csv" | ".parquet":
            return _open_table(path, inputs)
        case suffix:
            raise WrongInput(
                f"{path}: {suffix or 'a file without suffix'} is no data set we read; "
                "wanted .npz, .csv, .parquet, or a folder of images or WAV files"
            )


def _open_npz(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], *, missing: bool) -> LoadedSet:
    arrays = read_npz(path)
    columns = {spec.name: _input_array(path, arrays, spec, alone=len(inputs) == 1, missing=missing) for spec in inputs}
    count = len(next(iter(columns.values())))
    if count == 0:
        raise WrongInput(f"{path}: there are no samples in it")
    for name, column in columns.items():
        if len(column) != count:
            raise WrongInput(f"{path}: {name!r} has {len(column)} samples, {inputs[0].name!r} has {count}")
    beside = {name: array for name, array in arrays.items() if name not in columns}
    labels, class_names, annotation = _labels_of_arrays(path, beside, outputs, count)
    return LoadedSet(
        path.stem, _kind_of_arrays(columns, inputs), lambda index: {name: c[index] for name, c in columns.items()},
        [f"{path.name}[{index}]" for index in range(count)], labels=labels, class_names=class_names,
        annotation=annotation,
    )  # fmt: skip


def _labels_of_arrays(
    path: Path, arrays: dict[str, NDArray[Any]], outputs: Sequence[TensorSpec], count: int
) -> tuple[NDArray[Any] | None, tuple[str, ...], AnnotationKind | None]:
    labels = arrays.get("labels")
    if labels is None and (found := annotations_of_arrays(path, arrays, count)) is not None:
        return found.labels, found.class_names, found.kind
    if labels is None and outputs:
        labels = arrays.get(outputs[0].name)
    if labels is not None and outputs and (masks := _as_masks(labels, outputs[0])) is not None:
        found = annotations_of_arrays(path, {"masks": masks}, count)
        return (found.labels, found.class_names, found.kind) if found is not None else (None, (), None)
    return *_checked_labels(path, labels, count), None


def _as_masks(labels: NDArray[Any], output: TensorSpec) -> NDArray[Any] | None:
    """Labels of a class number for each pixel, of a model that answers with planes: they are masks by another name."""
    if labels.dtype.kind not in "iub" or len(output.shape) != _PLANES:
        return None
    for axis in (1, -1):
        if labels.ndim == _PLANES and labels.shape[axis] == 1 != output.shape[axis]:
            labels = labels.squeeze(axis)
    return labels if labels.ndim == _PLANES - 1 else None


def _input_array(
    path: Path, arrays: dict[str, NDArray[Any]], spec: TensorSpec, *, alone: bool, missing: bool
) -> NDArray[Any]:
    array = arrays.get(spec.name, arrays.get("x") if alone else None)
    if array is None:
        there = ", ".join(sorted(arrays)) or "nothing"
        raise WrongInput(
            f"{path}: the model's input is {spec.name!r}, the file has {there}",
            hint=f"np.savez({path.name!r}, **{{{spec.name!r}: samples}}, labels=labels)",
        )
    if array.ndim == 0:
        raise WrongInput(f"{path}: {spec.name!r} is a single number, wanted samples on the first axis")
    if array.dtype.kind not in ("US" if spec.dtype == "string" else "fiub"):
        raise WrongInput(f"{path}: {spec.name!r} is {array.dtype}, wanted {spec.dtype}")
    if array.dtype.kind == "f" and spec.dtype.startswith(("int", "uint", "bool")):
        raise WrongInput(f"{path}: {spec.name!r} is {array.dtype}, the model wants {spec.dtype}")
    real = array if array.dtype.kind == "f" else np.zeros((len(array), 1))
    wrong = np.isinf(real) if missing else ~np.isfinite(real)
    if wrong.any():
        where = int(np.argwhere(wrong.reshape(len(real), -1).any(axis=1))[0][0])
        raise WrongInput(f"{path}: {spec.name!r} holds a value that is not finite (NaN or infinity), in sample {where}")
    return array


def _kind_of_arrays(columns: dict[str, NDArray[Any]], inputs: Sequence[TensorSpec]) -> SampleKind:
    """Bytes of height × width × 1 or 3 are images; arrays that have the model's own shape are taken as they are."""
    array = next(iter(columns.values()))
    is_image = len(inputs) == 1 and array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] in (1, 3)
    return "image" if is_image else "tensor"


def _checked_labels(path: Path, labels: NDArray[Any] | None, count: int) -> tuple[NDArray[Any] | None, tuple[str, ...]]:
    if labels is None:
        return None, ()
    if labels.ndim == 0 or len(labels) != count:
        got = "one number" if labels.ndim == 0 else str(len(labels))
        raise WrongInput(f"{path}: {count} samples but labels of length {got}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise WrongInput(f"{path}: the labels hold a value that is not finite (NaN or infinity)")
    if labels.dtype.kind in "US":
        names = class_names_of(set(labels.astype(str).tolist()))
        index = {name: number for number, name in enumerate(names)}
        return np.array([index[label] for label in labels.astype(str).tolist()], np.int64), names
    if labels.dtype.kind not in "fiub":
        raise WrongInput(f"{path}: the labels are {labels.dtype}, wanted class numbers, names or float targets")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    return (labels.astype(np.int64) if labels.dtype.kind in "iub" and labels.ndim == 1 else labels), ()


def _open_folder(path: Path, inputs: Sequence[TensorSpec]) -> LoadedSet:
    if len(inputs) != 1:
        raise WrongInput(
            f"{path}: a folder serves models with one input; this one has {len(inputs)}", hint="use an .npz"
        )
    spec = inputs[0]
    depth = len(path.parts)
    set_aside = ("masks",) if _are_masks(path) else ()
    found = sorted(
        (
            file
            for file in _files_below(path)
            if not file.name.startswith(".") and file.parts[depth : depth + 1] != set_aside
        ),
        key=lambda file: file.parts,
    )
    images = [file for file in found if file.suffix.lower() in IMAGE_SUFFIXES]
    recordings = [file for file in found if file.suffix.lower() == ".wav"]
    if images and recordings:
        raise WrongInput(f"{path}: holds both images and recordings; wanted one kind")
    if not images and not recordings:
        raise WrongInput(f"{path}: there is no image and no WAV file in this folder")
    files = images or recordings
    annotated = annotations_of_folder(path, images) if images else None
    labels, class_names = annotated[1:] if annotated else labels_of_files(path, files)
    sources = ["/".join(file.parts[depth:]) for file in files]
    if recordings:
        rate = read_wav(files[0])[1]
        return LoadedSet(
            path.name, "audio", lambda index: {spec.name: _waveform(files[index], rate)}, sources,
            labels=labels, class_names=class_names, sample_rate_hz=rate,
        )  # fmt: skip
    channels = channels_of(spec)
    return LoadedSet(
        path.name, "image", lambda index: {spec.name: read_image(files[index], channels=channels)}, sources,
        labels=labels, class_names=class_names, annotation=annotated.kind if annotated else None,
    )  # fmt: skip


def _files_below(folder: Path) -> Iterator[Path]:
    """Of all its folders but those that links lead to."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(folder / entry.name)
            elif entry.is_file():
                yield folder / entry.name


def _are_masks(path: Path) -> bool:
    """Whether `masks/` holds masks: beside `images/` it does; else it may be a class of that name."""
    return (path / "masks").is_dir() and (path / "images").is_dir()


def _waveform(file: Path, rate: int) -> NDArray[np.float32]:
    wave, found = read_wav(file)
    if found != rate:
        raise WrongInput(
            f"{file}: sampled at {found} Hz, the others at {rate} Hz", hint=f"sox {file} -r {rate} OUT.wav"
        )
    return wave


def channels_of(spec: TensorSpec) -> int:
    """Image channels that an input of this shape (without batch) takes: 1 or 3, by the axis that says so."""
    if len(spec.shape) == 2:
        return 1
    if len(spec.shape) != 3:
        shape = "x".join(str(dim) for dim in spec.shape)
        raise WrongInput(f"input {spec.name!r} takes {shape} per sample, which is no image", hint="use an .npz")
    for axis in (0, 2):
        if spec.shape[axis] in (1, 3):
            return int(spec.shape[axis])
    return 3


def _open_table(path: Path, inputs: Sequence[TensorSpec]) -> LoadedSet:
    if len(inputs) == 1:
        columns, raw_labels = _lone(inputs[0], read_table(path, inputs[0]))
    else:
        columns, raw_labels = read_columns(path, inputs)
    count = len(next(iter(columns.values())))
    labels, class_names = _checked_labels(path, raw_labels, count)
    return LoadedSet(
        path.stem, "tensor", lambda index: {name: column[index] for name, column in columns.items()},
        [f"{path.name}[{index}]" for index in range(count)], labels=labels, class_names=class_names,
    )  # fmt: skip


def _lone(
    spec: TensorSpec, table: tuple[NDArray[Any], NDArray[Any] | None]
) -> tuple[dict[str, NDArray[Any]], NDArray[Any] | None]:
    return {spec.name: table[0]}, table[1]
