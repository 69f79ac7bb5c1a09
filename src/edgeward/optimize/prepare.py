"""Order → task: the model, the data and the steps between them, checked before any work is done."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from edgeward.bundle import VerifiedBundle
from edgeward.infer import Predictor
from edgeward.infer.postprocess import class_count
from edgeward.infer.preprocess import rate_hz, takes_missing
from edgeward.infer.runtimes import Session
from edgeward.kit.errors import EdgewardError, WrongInput
from edgeward.measure.annotated import detect_step
from edgeward.measure.dataset import LoadedSet, open_dataset
from edgeward.measure.evaluate import answers
from edgeward.measure.fit import IMAGE_SCALINGS, fit_steps
from edgeward.measure.isolated import IsolatedSession
from edgeward.measure.quality import METRICS
from edgeward.optimize.batch import with_free_batch
from edgeward.optimize.inspect import describe, fix_shapes
from edgeward.optimize.parent import Parent
from edgeward.optimize.parity import prove
from edgeward.optimize.readers import Read, read
from edgeward.records.flow import Flow
from edgeward.records.model import Detect, ModelFacts, Postprocess, Preprocess, TensorSpec
from edgeward.records.target import Budget

BASELINE_RUNTIME = "onnxruntime"
"""What runs the model as given."""
_CALIBRATION_SAMPLES = 512
_SCALING_SAMPLES = 200
_PARITY_SAMPLES = 32


class Order(NamedTuple):
    """What the user asked for. `threads` None: measured. `metric` None: what the data ask for. `memory` is the folder
    of kept trials, None: none. `parent` is the deployed version, whose scales
    and order are kept where that does well."""

    model: Path
    data: Path
    calibration: Path | None
    output: Path
    metric: str | None
    max_drop: float
    budget: Budget
    threads: int | None
    time_limit_s: float | None
    seed: int
    preprocess: Preprocess | None
    labels: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    overwrite: bool
    command: str
    memory: Path | None = None
    postprocess: Postprocess = ()
    parent: VerifiedBundle | None = None
    flow: Flow | None = None


class Task(NamedTuple):
    """What is to be optimised: the model as given, its data, the steps that bring one to the other, and those that
    read the answer."""

    model: onnx.ModelProto
    model_bytes: bytes
    facts: ModelFacts
    evaluation: LoadedSet
    calibration: LoadedSet
    preprocess: Preprocess
    notes: tuple[str, ...]
    postprocess: Postprocess = ()
    parent: Parent | None = None


def prepare(order: Order) -> Task:
    """Reads everything once. Raises WrongInput or Unsupported, in one sentence, for whatever cannot work."""
    if not math.isfinite(order.max_drop):
        raise WrongInput(f"--max-drop: wanted a finite number, got {order.max_drop}", hint="--max-drop 0.01")
    found = read(order.model)
    model = found.model
    if order.shapes:
        model = fix_shapes(model, order.shapes)
    model, batch_notes = with_free_batch(model)
    model_bytes = model.SerializeToString()
    with _session(order, model_bytes) as session:
        return _task(order, found._replace(model=model, notes=(*found.notes, *batch_notes)), model_bytes, session)


def _task(order: Order, found: Read, model_bytes: bytes, session: Session) -> Task:
    inputs = tuple(_without_batch(spec) for spec in session.inputs)
    missing = takes_missing(order.preprocess or ())
    whole = open_dataset(order.data, inputs, session.outputs, missing=missing)
    notes = list(found.notes)
    _check_rate(order, whole)
    evaluation, calibration = _parts(order, whole, inputs, session, notes)
    steps = order.preprocess
    if steps is None:
        steps = _steps(session, inputs, calibration, notes)
    _check_fit(order, session, evaluation, steps)
    postprocess = _reading(order, session, evaluation, steps, notes)
    _check_labels(order, session, postprocess)
    if found.original is not None:
        predictor = Predictor(session, preprocess=steps)
        few = [predictor.tensors(calibration[index]) for index in range(min(len(calibration), _PARITY_SAMPLES))]
        notes.append(prove(found.original, session, few, is_quantized=found.is_quantized))
    facts = describe(found.model)
    parent = Parent.of(order.parent) if order.parent is not None else None
    return Task(found.model, model_bytes, facts, evaluation, calibration, steps, tuple(notes), postprocess, parent)


def _reading(order: Order, session: Session, evaluation: LoadedSet, steps: Preprocess, notes: list[str]) -> Postprocess:
    """How answers are read: as the order says; for boxes also as the model as given reads best, so that every
    candidate is read alike."""
    if evaluation.annotation != "boxes" or any(isinstance(step, Detect) for step in order.postprocess):
        return order.postprocess
    step = detect_step(Predictor(session, preprocess=steps), evaluation)
    form = f"{step.layout}, {step.box_format} in {'shares of the input' if step.normalized else 'pixels'}"
    notes.append(
        f"boxes are read as {form}{', sigmoid' if step.sigmoid else ''}, which fits the first images best; "
        "[[postprocess]] in the --preprocess FILE says it for good"
    )
    return (*order.postprocess, step)


def _check_labels(order: Order, session: Session, postprocess: Postprocess) -> None:
    classes = class_count(postprocess, session.outputs)
    is_known = classes is not None and any(isinstance(step, Detect) for step in postprocess)
    if order.labels and is_known and classes != len(order.labels):
        raise WrongInput(f"--labels: there are {len(order.labels)} names; read so, the boxes have {classes} classes")


@contextmanager
def _session(order: Order, model_bytes: bytes) -> Iterator[Session]:
    """The model as given, in a process of its own: one that crashes the runtime is told in a sentence."""
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(model_bytes)
        try:
            session = IsolatedSession(str(file), BASELINE_RUNTIME, 1)
        except EdgewardError as error:
            raise type(error)(f"{order.model}: {error.message}", hint=error.hint) from error
        with session:
            yield session


def _without_batch(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(name=spec.name, dtype=spec.dtype, shape=spec.shape[1:])


def _parts(
    order: Order, whole: LoadedSet, inputs: tuple[TensorSpec, ...], session: Session, notes: list[str]
) -> tuple[LoadedSet, LoadedSet]:
    """The evaluation and the calibration samples, which share none."""
    generator = np.random.default_rng(order.seed)
    if order.calibration is not None:
        missing = takes_missing(order.preprocess or ())
        calibration = open_dataset(order.calibration, inputs, session.outputs, missing=missing)
        if whole.class_names and calibration.class_names and whole.class_names != calibration.class_names:
            raise WrongInput(
                f"{order.calibration}: its classes are {', '.join(calibration.class_names[:5])}…, "
                f"those of {order.data} are {', '.join(whole.class_names[:5])}…"
            )
        drawn = np.sort(generator.permutation(len(calibration))[:_CALIBRATION_SAMPLES])
        calibration = calibration.part(drawn)
        common = set(calibration.fingerprints()) & set(whole.fingerprints())
        if common:
            notes.append(f"{len(common)} calibration samples are in the evaluation data too: its figures flatter")
        return whole, calibration
    if len(whole) < 4:
        raise WrongInput(f"{order.data}: {len(whole)} samples are too few to set some aside", hint="--calibration DATA")
    count = min(_CALIBRATION_SAMPLES, max(1, len(whole) // 5))
    shuffled = generator.permutation(len(whole))
    notes.append(
        f"no --calibration was given: {count} of {len(whole)} samples were set aside for it (seed {order.seed})"
    )
    return whole.part(np.sort(shuffled[count:])), whole.part(np.sort(shuffled[:count]))


def _steps(session: Session, inputs: tuple[TensorSpec, ...], calibration: LoadedSet, notes: list[str]) -> Preprocess:
    """The least that fits; for images, with the range of values on which the model answers best, measured."""
    sample = calibration[0]
    plain = fit_steps(inputs[0], calibration.kind, sample)
    is_float = inputs[0].dtype.startswith("float")
    classes = calibration.labels is not None and calibration.labels.dtype.kind in "iu"
    if calibration.kind != "image" or not is_float or not classes:
        return plain
    channels = sample[inputs[0].name].shape[-1]
    scores: dict[str, float] = {}
    part = calibration.part(np.arange(min(len(calibration), _SCALING_SAMPLES)))
    for name, scaling in IMAGE_SCALINGS.items():
        if scaling is not None and len(scaling.mean) not in (1, channels):
            continue
        steps = fit_steps(inputs[0], "image", sample, scaling)
        found = answers(Predictor(session, preprocess=steps), part, metric="top1")
        if found.targets is not None and found.outputs.reshape(len(part), -1).shape[1] > int(found.targets.max()):
            scores[name] = METRICS["top1"].score(found.outputs, found.targets)
    best = max(scores, key=lambda name: scores[name], default="0..255")
    if best == "0..255" or scores[best] <= scores["0..255"] + 0.1:
        return plain
    notes.append(
        f"pixels go in as {best}: top1 {scores[best]:.2f} on {len(part)} calibration samples, "
        f"{scores['0..255']:.2f} as 0..255; --preprocess FILE says it for good"
    )
    return fit_steps(inputs[0], "image", sample, IMAGE_SCALINGS[best])


def _check_rate(order: Order, data: LoadedSet) -> None:
    wanted = rate_hz(order.preprocess or ())
    if wanted is not None and data.sample_rate_hz not in (None, wanted):
        raise WrongInput(
            f"{order.data}: sampled at {data.sample_rate_hz} Hz, the steps take {wanted} Hz",
            hint=f'[[preprocess]] type = "resample", from_hz = {data.sample_rate_hz}, to_hz = {wanted}',
        )


def _check_fit(order: Order, session: Session, evaluation: LoadedSet, steps: Preprocess) -> None:
    """Runs one sample, so that a wrong shape or dtype is told before the long work, with the data set's name."""
    predictor = Predictor(session, preprocess=steps)
    try:
        next(iter(predictor.outputs_of([evaluation[0]])))
    except WrongInput as error:
        raise WrongInput(f"{order.data}: {evaluation.sources[0]}: {error.message}", hint=error.hint) from error
