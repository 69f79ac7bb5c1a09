"""What a command measures: a model file as it is, or a verified bundle with the steps around its model."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from edgeward.bundle import open_predictor, trusted_keys, verify
from edgeward.cli.fitting import fitting_bundle
from edgeward.infer import Predictor, runtimes
from edgeward.infer.preprocess import takes_missing
from edgeward.infer.runtimes import Session
from edgeward.kit import codec
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.measure.dataset import LoadedSet, open_dataset
from edgeward.measure.fit import fit_steps
from edgeward.records.bundle import Manifest
from edgeward.records.model import Postprocess, Preprocess, PreprocessFile, TensorSpec

_PLAIN_RUNTIME = "onnxruntime"


class Subject(NamedTuple):
    """Something runnable. `preprocess` is None where nobody has said yet what a raw sample needs."""

    path: Path
    model_bytes: bytes
    runtime: str
    session: Session
    threads: int
    preprocess: Preprocess | None
    manifest: Manifest | None
    postprocess: Postprocess = ()


def steps_for(path: Path, paths: Sequence[Path], preprocess: Path | None) -> Path | None:
    """Which of `paths` the file of steps serves: the plain models; bundles bring their own."""
    if preprocess is not None and all(one.is_dir() for one in paths):
        raise WrongInput(f"--preprocess: {paths[0]} is a bundle and brings its own steps")
    return None if path.is_dir() else preprocess


def open_subject(path: Path, keys: Sequence[Path], *, threads: int | None, preprocess: Path | None = None) -> Subject:
    """The model file or bundle at `path`, loaded; a bundle is verified first.

    On so many threads, by default as a bundle was measured (but on no more than there are CPUs), else on one.
    """
    if path.is_dir() and not (path / "saved_model.pb").is_file():
        return _of_bundle(path, keys, threads)
    return _of_file(path, threads or 1, preprocess)


def threads_at(subject: Subject, threads: int | None, cpu_count: int) -> Subject:
    """The same on a machine of so many CPUs: a bundle as it was measured, on no more threads than there are CPUs."""
    if threads is not None or subject.manifest is None:
        return subject
    return subject._replace(threads=max(1, min(subject.manifest.thread_count, cpu_count)))


def _of_bundle(path: Path, keys: Sequence[Path], threads: int | None) -> Subject:
    verified = verify(fitting_bundle(path), trusted_keys(keys))
    manifest = verified.manifest
    count = threads or max(1, min(manifest.thread_count, len(os.sched_getaffinity(0))))
    session = open_predictor(verified, threads=count).session
    return Subject(
        path, verified.model, manifest.runtime, session, count, manifest.preprocess, manifest, manifest.postprocess
    )  # fmt: skip


def _of_file(path: Path, threads: int, preprocess: Path | None) -> Subject:
    runtime = "litert" if path.suffix.lower() == ".tflite" and path.is_file() else _PLAIN_RUNTIME
    data = path.read_bytes() if runtime == "litert" else _model_bytes(path)
    said = codec.from_toml(preprocess, PreprocessFile) if preprocess else None
    try:
        session = runtimes.load(runtime).load(data, threads=threads)
    except (WrongInput, Unsupported) as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error
    if said is None:
        return Subject(path, data, runtime, session, threads, None, None)
    return Subject(path, data, runtime, session, threads, said.preprocess, None, said.postprocess)


def _model_bytes(path: Path) -> bytes:
    """The whole model. A device without the package onnx takes the file as it is, with fewer words about faults."""
    if find_spec("onnx") is not None:
        from edgeward.optimize.readers import read_model

        model: bytes = read_model(path).SerializeToString()
        return model
    if not path.exists():
        raise WrongInput(f"{path}: no such model or bundle")
    data = path.read_bytes()
    if not data:
        raise WrongInput(f"{path}: this file is empty, wanted an ONNX model")
    return data


def open_data(subject: Subject, path: Path) -> LoadedSet:
    """The data set at `path` for this subject, its class numbers in the order of the bundle's labels."""
    inputs = [_without_batch(spec) for spec in subject.session.inputs]
    manifest = subject.manifest
    steps = (*(subject.preprocess or ()), *(manifest.folded if manifest else ()))
    given = manifest.inputs if manifest else inputs
    data = open_dataset(path, given, subject.session.outputs, missing=takes_missing(steps))
    if manifest is None:
        return data
    if data.kind == "audio" and manifest.sample_rate_hz not in (None, data.sample_rate_hz):
        raise WrongInput(
            f"{path}: sampled at {data.sample_rate_hz} Hz, {manifest.name} takes {manifest.sample_rate_hz} Hz"
        )
    _sort_labels(data, manifest)
    return data


def _without_batch(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=spec.shape[1:])


def _sort_labels(data: LoadedSet, manifest: Manifest) -> None:
    """A folder's classes are numbered by name; the bundle may know them in another order."""
    known = set(data.class_names) & set(manifest.labels)
    if data.labels is None or not known:
        return
    if strange := sorted(set(data.class_names) - known):
        raise WrongInput(f"{data.name}: {manifest.name} knows no class {strange[0]!r}")
    places = np.array([manifest.labels.index(name) for name in data.class_names], np.int64)
    if data.annotation == "boxes":
        classes = data.labels[..., 4].astype(np.int64)
        data.labels[..., 4] = np.where(classes >= 0, places[classes], -1)
    else:
        data.labels = places[data.labels]


def predictor_for(subject: Subject, data: LoadedSet) -> Predictor:
    """The model with the bundle's steps; around a plain model the least that makes the data fit.

    Raises WrongInput, with the data set's name, where the first sample does not fit.
    """
    steps = subject.preprocess
    if steps is None:
        steps = fit_steps(_without_batch(subject.session.inputs[0]), data.kind, data[0])
    predictor = Predictor(subject.session, preprocess=steps, postprocess=subject.postprocess)
    try:
        predictor.tensors(data[0])
    except WrongInput as error:
        raise WrongInput(f"{data.name}: {data.sources[0]}: {error.message}", hint=error.hint) from error
    return predictor
