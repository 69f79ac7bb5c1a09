"""One recipe → one trial: the passes applied, the model run, its quality and its cost alone measured."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeward.infer import Predictor, runtimes
from edgeward.kit import codec, files
from edgeward.kit.errors import EdgewardError
from edgeward.measure import bench
from edgeward.measure.evaluate import answers, chosen_metric
from edgeward.measure.jobs import Contender
from edgeward.measure.quality import Metric, drop
from edgeward.optimize import passes
from edgeward.optimize.inspect import precision_of
from edgeward.optimize.prepare import RUNTIME, Order, Task
from edgeward.optimize.propose import AS_GIVEN
from edgeward.records.candidate import Recipe, Trial
from edgeward.records.model import Preprocess

_FEED_SAMPLES = 8
_QUANTISER_COPIES = 4
"""ONNX Runtime's quantiser keeps about so many copies of a model in the folder for temporary files."""


class Candidate(NamedTuple):
    """A model that a recipe made, the steps that stay outside it, and its answers to the evaluation data."""

    trial: Trial
    model_bytes: bytes
    preprocess: Preprocess
    contender: Contender
    outputs: NDArray[Any]


class Judge(NamedTuple):
    """What candidates are compared with: the answers of the model as given, and what they are judged by."""

    metric: Metric
    reference: NDArray[Any]
    targets: NDArray[Any]
    seed: int


def as_given(task: Task, order: Order, threads: int, folder: Path) -> tuple[Candidate, Judge]:
    """The model as the user gave it: the baseline, and a candidate too."""
    predictor = predictor_of(task.model_bytes, task.preprocess, threads)
    found = answers(predictor, task.evaluation, metric=order.metric)
    metric = chosen_metric(order.metric, found, str(order.data))
    targets = found.outputs if found.targets is None or metric.kind == "reference" else found.targets
    judge = Judge(metric, found.outputs, targets, order.seed)
    recipe = Recipe(name=AS_GIVEN, steps=())
    candidate = _measured(task, recipe, task.model, task.preprocess, (), judge, threads, folder)
    return candidate, judge


def made(task: Task, recipe: Recipe, judge: Judge, threads: int, folder: Path) -> Candidate | Trial | None:
    """What the recipe makes of the task's model; a trial with its failure where that does not run; None where a
    pass has nothing to do on this model."""
    model, preprocess, notes = task.model, task.preprocess, list[str]()
    samples = list(task.calibration)
    try:
        for step in recipe.steps:
            context = passes.Context(samples, task.calibration.kind, preprocess, judge.seed)
            model, preprocess, said = passes.load(step.use).apply(model, step, context)
            notes += said
        return _measured(task, recipe, model, preprocess, tuple(notes), judge, threads, folder)
    except passes.DoesNotApply:
        return None
    except EdgewardError as error:
        return failed(recipe, error.message, tuple(notes))
    except Exception as error:  # noqa: BLE001 - a third-party quantiser on a model nobody has seen is one failed trial
        _check_space(error, task.model_bytes)
        return failed(recipe, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", tuple(notes))


def _check_space(error: Exception, model_bytes: bytes) -> None:
    """Raises OSError where a full disk is the cause; the quantiser's own files, cut short, make it say other things."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise error
    place = Path(tempfile.gettempdir())
    if files.free_bytes(place) < _QUANTISER_COPIES * len(model_bytes):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place)) from error


def failed(recipe: Recipe, reason: str, notes: tuple[str, ...] = ()) -> Trial:
    """A recipe that gave nothing to measure."""
    return Trial(
        recipe=recipe.name, steps=recipe.steps, runtime=RUNTIME, runtime_version=runtimes.load(RUNTIME).version(),
        precision="", file=None, digest=None, failure=reason, notes=notes,
    )  # fmt: skip


def predictor_of(model_bytes: bytes, preprocess: Preprocess, threads: int) -> Predictor:
    """The model as it is run here, with the steps that stay outside it."""
    return Predictor(runtimes.load(RUNTIME).load(model_bytes, threads=threads), preprocess=preprocess)


def _measured(
    task: Task,
    recipe: Recipe,
    model: onnx.ModelProto,
    preprocess: Preprocess,
    notes: tuple[str, ...],
    judge: Judge,
    threads: int,
    folder: Path,
) -> Candidate:
    model_bytes = task.model_bytes if recipe.name == AS_GIVEN else model.SerializeToString()
    file = folder / f"{recipe.name}.onnx"
    file.write_bytes(model_bytes)
    predictor = predictor_of(model_bytes, preprocess, threads)
    count = min(len(task.evaluation), _FEED_SAMPLES)
    first = predictor.tensors(task.evaluation[0])
    feeds = [predictor.tensors(task.evaluation[index]) for index in range(count)]
    same = [feed for feed in feeds if all(feed[name].shape == first[name].shape for name in first)]
    contender = Contender(str(file), RUNTIME, threads, str(bench.save_feeds(folder / f"{recipe.name}.npz", same)))
    cost = bench.measure_alone(contender)
    asked = judge.metric.name
    outputs = judge.reference if recipe.name == AS_GIVEN else answers(predictor, task.evaluation, metric=asked).outputs
    lost = drop(judge.metric, judge.reference, outputs, judge.targets, seed=judge.seed)
    trial = Trial(
        recipe=recipe.name, steps=recipe.steps, runtime=RUNTIME, runtime_version=runtimes.load(RUNTIME).version(),
        precision=precision_of(model), file=None, digest=codec.digest_of(model_bytes), size_bytes=len(model_bytes),
        quality={judge.metric.name: judge.metric.score(outputs, judge.targets)},
        quality_drop=lost.value, quality_drop_ci=lost.interval,
        load_ms=cost.load_ms, first_ms=cost.first_ms, peak_memory_bytes=cost.peak_memory_bytes,
        notes=(*notes, *_parity(recipe, judge.reference, outputs)),
    )  # fmt: skip
    return Candidate(trial, model_bytes, preprocess, contender, outputs)


def _parity(recipe: Recipe, reference: NDArray[Any], outputs: NDArray[Any]) -> tuple[str, ...]:
    """How far the answers are from those of the model as given."""
    if recipe.name == AS_GIVEN or reference.dtype.kind != "f" or reference.shape != outputs.shape:
        return ()
    worst = float(np.abs(outputs.astype(np.float64) - reference).max())
    scale = float(np.abs(reference).max()) or 1.0
    return (f"answers differ from the model as given by at most {worst:.2g} (largest answer {scale:.3g})",)


def with_race(candidates: list[Candidate], times: list[NDArray[np.float64]], *, seed: int) -> list[Candidate]:
    """The candidates with their interleaved latencies; the first one is the baseline of the speed-ups."""
    raced = []
    for candidate, mine in zip(candidates, times, strict=True):
        compared = bench.compare(times[0], mine, seed=seed)
        is_base = candidate is candidates[0]
        trial = replace(
            candidate.trial,
            latency_ms=bench.latency_of(mine),
            latency_histogram=tuple(float(q) for q in np.quantile(mine, bench.HISTOGRAM_SHARES).round(5)),
            speedup_p50=1.0 if is_base else compared.ratio,
            speedup_ci=(1.0, 1.0) if is_base else compared.ratio_ci,
        )
        raced.append(candidate._replace(trial=trial))
    return raced
