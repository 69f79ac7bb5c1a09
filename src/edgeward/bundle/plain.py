"""A plain model file → the parts of a bundle: what its raw samples are, and a self-test that it passes here."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.bundle.assembly import Parts
from edgeward.bundle.selftest import expected_outputs
from edgeward.bundle.versions import same_major
from edgeward.infer import Predictor, Sample, runtimes
from edgeward.infer.postprocess import class_count
from edgeward.infer.preprocess import kind_of, rate_hz, raw_shape
from edgeward.infer.runtimes.base import Session
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.records.model import (
    CenterCrop,
    Classify,
    Crop,
    Dtype,
    FftFeatures,
    FitLength,
    Grey,
    Model,
    Normalize,
    OneHot,
    Postprocess,
    Preprocess,
    Resample,
    Resize,
    SampleKind,
    TensorSpec,
    ToLayout,
    Window,
)

_SEED = 20261120
_MADE_SAMPLES = 4
_RUNTIME = "onnxruntime"


class Identity(NamedTuple):
    """What the bundle is called, and when it was made."""

    name: str
    version: str
    created_at: datetime


class RawSamples(NamedTuple):
    """Real samples for the self-test; all of one shape."""

    kind: SampleKind
    samples: Sequence[Sample]
    sample_rate_hz: int | None = None


def parts_of_onnx(
    data: bytes,
    identity: Identity,
    *,
    where: str,
    preprocess: Preprocess = (),
    postprocess: Postprocess = (),
    labels: tuple[str, ...] = (),
    read_samples: Callable[[Sequence[TensorSpec]], RawSamples] | None = None,
    threads: int = 1,
) -> Parts:
    """The parts of a bundle of this ONNX model, from the file `where`, for ONNX Runtime.

    `read_samples` is given the model's inputs without their batch axis; without it, samples are drawn. Without
    `postprocess` the best class is named where there are labels.

    Raises WrongInput when the model, the steps, the labels or the samples do not fit each other.
    """
    count, precision = _weights(data, where)
    runtime = runtimes.load(_RUNTIME)
    try:
        session = runtime.load(data, threads=threads)
    except (WrongInput, Unsupported) as fault:
        raise type(fault)(f"{where}: {fault.message}", hint=fault.hint) from fault
    _check_inputs(session)
    _check_outputs(session, labels, postprocess)
    predictor = Predictor(session, preprocess=preprocess, postprocess=postprocess)
    raw = read_samples([without_batch(spec) for spec in session.inputs]) if read_samples else None
    kind: SampleKind = raw.kind if raw else _kind(preprocess, session)
    inputs = _stack(predictor, raw, preprocess) if raw else _drawn(_drawable_specs(session, preprocess, kind))
    expected = expected_outputs(predictor, inputs)
    _check_answer(predictor, inputs)
    return Parts(
        name=identity.name,
        version=identity.version,
        created_at=identity.created_at,
        model=Model(
            name=identity.name,
            format="onnx",
            files=(),
            inputs=session.inputs,
            outputs=session.outputs,
            parameter_count=count,
        ),
        model_bytes=data,
        runtime=_RUNTIME,
        runtime_versions=same_major(runtime.version()),
        kind=kind,
        inputs=_raw_specs(inputs, session, preprocess, kind),
        self_test_inputs=inputs,
        self_test_expected=expected,
        precision=precision,
        preprocess=preprocess,
        postprocess=postprocess or ((Classify(),) if labels else ()),
        labels=labels,
        thread_count=threads,
        sample_rate_hz=_sample_rate(preprocess, raw),
    )


def without_batch(spec: TensorSpec) -> TensorSpec:
    """A session's spec as it is for one sample."""
    return TensorSpec(name=spec.name, dtype=spec.dtype, shape=spec.shape[1:])


def _check_inputs(session: Session) -> None:
    for spec in session.inputs:
        if spec.dtype in ("string", "bfloat16"):
            raise Unsupported(f"input {spec.name!r} takes {spec.dtype}; wanted numbers that numpy has")


def _check_outputs(session: Session, labels: tuple[str, ...], postprocess: Postprocess) -> None:
    for spec in session.outputs:
        if not spec.shape:
            raise Unsupported(f"output {spec.name!r} is one number for the whole batch; wanted one answer per sample")
    classes = class_count(postprocess, session.outputs)
    if labels and classes is not None and classes != len(labels):
        raise WrongInput(
            f"there are {len(labels)} labels; the output {session.outputs[0].name!r} has {classes} classes"
        )


def _check_answer(predictor: Predictor, inputs: Mapping[str, NDArray[Any]]) -> None:
    """Reads the first sample's answer as the steps say. Raises WrongInput where they do not fit the outputs."""
    predictor.answer({name: array[0] for name, array in inputs.items()})


def _kind(preprocess: Preprocess, session: Session) -> SampleKind:
    """What the steps work on; without steps, the model's own tensors."""
    kind = kind_of(preprocess)
    if kind is not None:
        return kind
    last = session.inputs[0].shape[1:][-1:]
    pixels = len(session.inputs[0].shape) == 4 and last in ((1,), (3,))
    return "image" if pixels and any(isinstance(step, Normalize) for step in preprocess) else "tensor"


def _drawable_specs(session: Session, preprocess: Preprocess, kind: SampleKind) -> dict[str, tuple[Any, ...]]:
    """By input name the dtype and shape of one raw sample. Raises WrongInput where only real samples can tell."""
    name = session.inputs[0].name
    if kind == "image":
        return {name: ("uint8", *_fixed(name, _image_shape(session.inputs[0], preprocess)))}
    if kind == "audio":
        return {name: ("float32", *_fixed(name, (_wave_length(preprocess),)))}
    if any(isinstance(step, FftFeatures | OneHot) for step in preprocess):
        _fixed(name, ("rows",))
    return {spec.name: (spec.dtype, *_fixed(spec.name, spec.shape[1:])) for spec in session.inputs}


def _wave_length(preprocess: Preprocess) -> int | str:
    """As many values as the steps take first, at the rate at which a waveform comes."""
    ratio = 1.0
    for step in preprocess:
        match step:
            case Resample():
                ratio *= step.from_hz / step.to_hz
            case FitLength():
                return round(step.samples * ratio)
            case Window():
                return math.ceil(step.length * ratio)
            case _:
                pass
    return "length"


def _image_shape(spec: TensorSpec, preprocess: Preprocess) -> tuple[int | str, ...]:
    """Height × width × channels of a raw image that needs no scaling where no step scales it."""
    shape = spec.shape[1:]
    if len(shape) != 3:
        raise WrongInput(f"input {spec.name!r} takes {_times(shape)} per sample, which is no image")
    is_planar = any(isinstance(step, ToLayout) and step.layout == "NCHW" for step in preprocess)
    height, width, channels = (shape[1], shape[2], shape[0]) if is_planar else shape
    channels = 3 if any(isinstance(step, Grey) for step in preprocess) else channels
    sized = next((step for step in preprocess if isinstance(step, Resize | CenterCrop | Crop)), None)
    if isinstance(sized, Crop):
        # An image of which a share is as large as the model's input is drawn by nobody.
        return ("height", "width", channels) if sized.relative else (round(sized.bottom), round(sized.right), channels)
    return (sized.height, sized.width, channels) if sized else (height, width, channels)


def _fixed(name: str, shape: Sequence[int | str]) -> tuple[int | str, ...]:
    free = [dim for dim in shape if isinstance(dim, str)]
    if free:
        raise WrongInput(
            f"input {name!r} has a free dimension {free[0]!r}, so no sample for the self-test can be drawn",
            hint="add --data DATA; a few real samples are taken from it",
        )
    return tuple(shape)


def _drawn(specs: Mapping[str, tuple[Any, ...]]) -> dict[str, NDArray[Any]]:
    """A few samples from a seeded generator: the same specs always give the same samples."""
    generator = np.random.default_rng(_SEED)
    return {name: _draw(generator, dtype, (_MADE_SAMPLES, *shape)) for name, (dtype, *shape) in specs.items()}


def _draw(generator: np.random.Generator, dtype: Dtype, shape: tuple[int, ...]) -> NDArray[Any]:
    if dtype.startswith("float"):
        return generator.standard_normal(shape, np.float32).astype(dtype)
    if dtype in ("int8", "uint8"):
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    # Wider integers are mostly indices or masks: 0 and 1 are valid for both.
    return generator.integers(0, 2, shape).astype(dtype)


def _stack(predictor: Predictor, raw: RawSamples, preprocess: Preprocess) -> dict[str, NDArray[Any]]:
    """The samples on a new first axis; without steps in the model's own dtypes, so that a device casts nothing."""
    ready = [sample if preprocess or raw.kind == "image" else predictor.tensors(sample) for sample in raw.samples]
    return {name: np.stack([sample[name] for sample in ready]) for name in ready[0]}


def _raw_specs(
    inputs: Mapping[str, NDArray[Any]], session: Session, preprocess: Preprocess, kind: SampleKind
) -> tuple[TensorSpec, ...]:
    """What one raw sample is. Sizes that the steps take as they come are free."""
    names = [spec.name for spec in session.inputs]
    return tuple(
        TensorSpec(name=name, dtype=str(inputs[name].dtype), shape=raw_shape(inputs[name].shape[1:], preprocess, kind))  # type: ignore[arg-type]
        for name in names
    )


def _sample_rate(preprocess: Preprocess, raw: RawSamples | None) -> int | None:
    if raw is not None and raw.sample_rate_hz is not None:
        return raw.sample_rate_hz
    return rate_hz(preprocess)


def _weights(data: bytes, where: str) -> tuple[int, str]:
    """How many parameters the model has, and the dtype that most of them have. Raises WrongInput for a model that
    is not whole: weights in other files would be outside of what is signed."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ModuleNotFoundError as error:
        raise Unsupported(
            f"packing a plain model needs the package {error.name!r}, which is not installed",
            hint="pip install 'edgeward[optimize]'",
        ) from error
    try:
        tensors = onnx.load_model_from_string(data).graph.initializer
    except DecodeError as error:
        raise WrongInput(f"{where}: this is no valid ONNX model: its protobuf cannot be read") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise WrongInput(
            f"{where}: keeps its weights in other files; wanted one file",
            hint=f"python -c \"import onnx; onnx.save(onnx.load('{where}'), 'whole.onnx')\"",
        )
    counts: dict[str, int] = {}
    for tensor in tensors:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        counts[dtype] = counts.get(dtype, 0) + math.prod(tensor.dims)
    return sum(counts.values()), max(counts, key=lambda dtype: counts[dtype], default="")


def _times(shape: Sequence[int | str]) -> str:
    return "x".join(str(dim) for dim in shape) or "one number"
