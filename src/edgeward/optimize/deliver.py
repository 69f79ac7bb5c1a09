"""The choice → files: model, bundle and report in one folder that appears at once."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward import bundle
from edgeward.infer import Predictor, runtimes
from edgeward.infer.preprocess import raw_shape
from edgeward.kit import codec
from edgeward.measure.dataset import LoadedSet
from edgeward.measure.naming import slug_of
from edgeward.measure.place import Place
from edgeward.optimize import exporters
from edgeward.optimize.prepare import Order, Task
from edgeward.optimize.report import to_html
from edgeward.optimize.trials import Candidate
from edgeward.records.candidate import Measurement, Report, Trial
from edgeward.records.model import (
    Classify,
    Model,
    Postprocess,
    Preprocess,
    TensorSpec,
)

_SELF_TEST_SAMPLES = 4
_TOLERANCES = {"float32": 1e-3}
_LOOSE_TOLERANCE = 0.05
"""Integer kernels round differently from CPU to CPU: an answer may move by a step or two of its scale."""


def write(
    folder: Path,
    order: Order,
    task: Task,
    chosen: Candidate,
    report: Report,
    measurement: Measurement | None,
    place: Place,
) -> None:
    """Everything that a run leaves when it found something, into the new folder."""
    (folder / file_of(chosen.trial)).write_bytes(chosen.model_bytes)
    (folder / "bundle").mkdir()
    file = str(folder / file_of(chosen.trial))
    with place.open(file, chosen.trial.runtime, chosen.contender.threads) as session:
        parts = _parts(order, task, chosen, report, measurement, session)
    bundle.assemble(folder / "bundle", parts)
    write_report(folder, report)


def file_of(trial: Trial) -> str:
    """The name of the chosen model's file."""
    return f"model{exporters.load(_format_of(trial)).suffix}"


def _format_of(trial: Trial) -> str:
    return runtimes.load(trial.runtime).formats[0]


def write_report(folder: Path, report: Report) -> None:
    """The report for programs and for people."""
    (folder / "report.json").write_bytes(codec.to_pretty_json(report))
    (folder / "report.html").write_text(to_html(report), encoding="utf-8")


def _parts(
    order: Order,
    task: Task,
    chosen: Candidate,
    report: Report,
    measurement: Measurement | None,
    session: runtimes.Session,
) -> bundle.Parts:
    predictor = Predictor(session, preprocess=chosen.preprocess)
    inputs = _self_test_inputs(task.evaluation)
    labels = order.labels or task.evaluation.class_names
    name = slug_of(order.model.stem) or "model"
    return bundle.Parts(
        name=name, version="1.0.0", created_at=_whole_second(report.taken_at),
        model=Model(
            name=name, format=_format_of(chosen.trial), files=(), inputs=session.inputs, outputs=session.outputs,
            parameter_count=task.facts.parameter_count, parent=codec.digest_of(task.model_bytes),
        ),
        model_bytes=chosen.model_bytes, runtime=chosen.trial.runtime,
        runtime_versions=bundle.same_major(chosen.trial.runtime_version),
        kind=task.evaluation.kind, inputs=_raw_specs(task, chosen.preprocess, session.inputs),
        self_test_inputs=inputs, self_test_expected=bundle.expected_outputs(predictor, inputs),
        precision=chosen.trial.precision, targets=(report.target,), preprocess=chosen.preprocess,
        folded=task.preprocess[len(chosen.preprocess) :], postprocess=_postprocess(report, task, chosen.outputs),
        labels=tuple(labels), thread_count=chosen.contender.threads,
        sample_rate_hz=task.evaluation.sample_rate_hz,
        tolerance=_TOLERANCES.get(chosen.trial.precision, _LOOSE_TOLERANCE),
        measurement=measurement, report=codec.to_pretty_json(report), flow=order.flow,
    )  # fmt: skip


def _self_test_inputs(data: LoadedSet) -> dict[str, NDArray[Any]]:
    """A few samples that can be stacked: those with the first one's shapes."""
    first = data[0]
    alike = [
        sample
        for sample in (data[index] for index in range(min(len(data), 32)))
        if all(sample[name].shape == first[name].shape for name in first)
    ]
    return {name: np.stack([sample[name] for sample in alike[:_SELF_TEST_SAMPLES]]) for name in first}


def _raw_specs(task: Task, preprocess: Preprocess, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """What one raw sample is, before `preprocess` and without the batch axis."""
    sample = task.evaluation[0]
    specs = []
    for spec in inputs:
        dtype: Any = str(sample[spec.name].dtype)
        shape = raw_shape(sample[spec.name].shape, preprocess, task.evaluation.kind)
        if task.evaluation.kind == "tensor" and not preprocess:
            dtype, shape = spec.dtype, spec.shape[1:]
        specs.append(TensorSpec(name=spec.name, dtype=dtype, shape=shape))
    return tuple(specs)


def _postprocess(report: Report, task: Task, outputs: NDArray[Any]) -> Postprocess:
    """As the user said it, or as boxes were read. Else classifiers name their best class; scores that are no
    probabilities yet are made so for it."""
    if task.postprocess:
        return task.postprocess
    flat = outputs.reshape(len(outputs), -1)
    if report.metric not in ("top1", "top5", "f1") or flat.shape[1] < 2 or outputs.dtype.kind != "f":
        return ()
    is_probability = bool((flat >= -1e-6).all() and np.allclose(flat.sum(axis=1), 1, atol=0.05))
    return (Classify(top=1, softmax=not is_probability),)


def _whole_second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
