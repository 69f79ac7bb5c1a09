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
from edgeward.kit.errors import EdgewardError, Failed
from edgeward.measure import bench
from edgeward.measure.dataset import LoadedSet
from edgeward.measure.evaluate import answers, chosen_metric, gathered
from edgeward.measure.isolated import IsolatedSession
from edgeward.measure.jobs import Contender, SoloResult
from edgeward.measure.place import OpenSession, Place, PlaceLost
from edgeward.measure.quality import Metric, drop
from edgeward.optimize import exporters, passes
from edgeward.optimize.inspect import precision_of
from edgeward.optimize.prepare import Order, Task
from edgeward.optimize.propose import AS_GIVEN, FOR_HEADS
from edgeward.records.candidate import Recipe, Step, Trial
from edgeward.records.model import Preprocess

_FEED_SAMPLES = 8
_FEW_SHARE = 10
_LEAST_FEW = 200
_WARM_S = 0.05
_DOUBTFUL = 1.2
"""A candidate that is so much too slow at most is timed once more."""
_THREADS_GAIN = 1.1
_MOST_COPIES = 4
_BYTES_OF_A_COPY = 4
"""For each byte of a model's file, roughly: weights are often packed once more for the kernels."""
_QUANTISER_COPIES = 4
"""ONNX Runtime's quantiser keeps about so many copies of a model in the folder for temporary files."""


class Candidate(NamedTuple):
    """A model that a recipe made, the steps that stay outside it, its answers to the evaluation data, and the
    milliseconds of an inference while it ran alone."""

    trial: Trial
    model_bytes: bytes
    preprocess: Preprocess
    contender: Contender
    outputs: NDArray[Any]
    alone_ms: float


class Reference(NamedTuple):
    """The model as given, timed in turn with each candidate: a machine that others share is faster now and slower then,
    and what a candidate takes is told as if it were always as fast as when the model as given was first timed."""

    session: IsolatedSession
    contender: Contender
    first_ms: float


class Rig(NamedTuple):
    """The place where candidates run, the numbers of threads that each of them is tried on, and the folder here for
    their files. `one_thread_ms` fills while they are tried: by runtime, the longest inference that gained nothing from
    more threads."""

    place: Place
    threads: tuple[int, ...]
    folder: Path
    one_thread_ms: dict[str, float]
    reference: Reference | None = None

    def timed(self, session: OpenSession, contender: Contender) -> SoloResult:
        """What the contender costs; `session` is that model, loaded and not run yet."""
        if self.reference is None or not isinstance(session, IsolatedSession):
            return session.alone(contender)
        cost = session.alone(contender, seconds=_WARM_S)
        first, theirs, first_ms = self.reference
        return replace(cost, steady_ms=first_ms * session.share_of(first, contender, theirs))

    def timed_anew(self, contender: Contender) -> SoloResult:
        """The same in a process of its own."""
        if self.reference is None:
            return self.place.measure_alone(contender)
        with self.place.open(contender.file, contender.runtime, contender.threads) as session:
            return self.timed(session, contender)


class Judge(NamedTuple):
    """What candidates are compared with: the answers of the model as given, and what they are judged by."""

    metric: Metric
    reference: NDArray[Any]
    targets: NDArray[Any]
    seed: int
    max_drop: float


class Chains:
    """What chains of passes made of the task's model: recipes that begin alike share the work."""

    def __init__(self, task: Task, seed: int) -> None:
        self._task = task
        self._seed = seed
        self._samples = list(task.calibration)
        self._made: dict[tuple[bytes, ...], passes.Passed | Exception] = {}
        self._ranges: dict[bytes, bytes] = {}

    def passed(self, steps: tuple[Step, ...]) -> passes.Passed:
        """The model after `steps`, with the notes of all of them. Raises what a pass raised."""
        if not steps:
            return passes.Passed(self._task.model, self._task.preprocess)
        key = tuple(codec.to_json(step) for step in steps)
        if key not in self._made:
            try:
                self._made[key] = self._step(self.passed(steps[:-1]), steps[-1], self._unquantised(steps))
            except Exception as error:  # noqa: BLE001 - raised again for each recipe that begins so
                self._made[key] = error
        found = self._made[key]
        if isinstance(found, Exception):
            raise found
        return found

    def has(self, steps: tuple[Step, ...]) -> bool:
        """Whether the model after `steps` is here already."""
        return isinstance(self._made.get(tuple(codec.to_json(step) for step in steps)), passes.Passed)

    def written(self, steps: tuple[Step, ...]) -> exporters.Exported | None:
        """The file that the last step writes itself; None where that is left to an exporter."""
        last = passes.load(steps[-1].use) if steps else None
        if not isinstance(last, passes.Writer):
            return None
        before = self.passed(steps[:-1])
        return last.write(before.model, steps[-1], self._context(before, self._unquantised(steps)))

    def _context(self, before: passes.Passed, unquantised: onnx.ModelProto | None) -> passes.Context:
        calibration = self._task.calibration
        return passes.Context(
            self._samples, calibration.kind, before.preprocess, self._seed, calibration.labels, unquantised,
            self._task.parent, self._ranges,
        )  # fmt: skip

    def _unquantised(self, steps: tuple[Step, ...]) -> onnx.ModelProto | None:
        """The model before the first of the steps behind which it was quantised."""
        place = next((place for place, step in enumerate(steps[:-1]) if step.use.startswith("quantize-")), None)
        return None if place is None else self.passed(steps[:place]).model

    def _step(self, before: passes.Passed, step: Step, unquantised: onnx.ModelProto | None) -> passes.Passed:
        try:
            after = passes.load(step.use).apply(before.model, step, self._context(before, unquantised))
        except passes.DoesNotApply:
            if step.use not in FOR_HEADS:
                raise
            return before
        return after._replace(notes=(*before.notes, *(f"{step.use}: {note}" for note in after.notes)))


def as_given(task: Task, order: Order, rig: Rig, session: OpenSession) -> tuple[Candidate, Judge]:
    """The model as the user gave it, which `session` has loaded: the baseline, and a candidate too."""
    recipe, exported = Recipe(name=AS_GIVEN, steps=()), exporters.Exported(task.model_bytes)
    predictor = Predictor(session, preprocess=task.preprocess, postprocess=task.postprocess)
    contender, cost = _cost(task, rig, session, predictor, given_file(rig), recipe.runtime)
    _widen(session, rig, len(task.model_bytes))
    found = answers(predictor, task.evaluation, metric=order.metric)
    metric = chosen_metric(order.metric, found, str(order.data))
    targets = found.outputs if found.targets is None or metric.kind == "reference" else found.targets
    judge = Judge(metric, found.outputs, targets, order.seed, order.max_drop)
    passed = passes.Passed(task.model, task.preprocess)
    return _candidate(recipe, passed, exported, (contender, cost), session, judge, found.outputs, rig), judge


def given_file(rig: Rig) -> Path:
    """Where the model as given lies."""
    return rig.folder / "given.onnx"


def beside(rig: Rig, given: Candidate, session: OpenSession) -> tuple[Rig, Candidate]:
    """The rig with the model as given in it, which `session` has loaded, to time others beside it, and what that one
    takes now. On another machine, as they are: a process more for each candidate would take longer there than it is
    worth."""
    if not isinstance(session, IsolatedSession):
        return rig, given
    contender = replace(given.contender, threads=rig.threads[0])
    first_ms = session.alone(contender).steady_ms
    rig = rig._replace(reference=Reference(session, contender, first_ms))
    alone_ms = first_ms if contender == given.contender else rig.timed_anew(given.contender).steady_ms
    return rig, given._replace(alone_ms=alone_ms)


class Hopeless(Failed):
    """The candidate takes too long to be chosen, whatever its answers are."""

    def __init__(self, alone_ms: float, slowest_ms: float) -> None:
        super().__init__(f"{alone_ms:.3g} ms an inference, over {slowest_ms:.3g} ms")
        self.alone_ms = alone_ms


class Wrong(Failed):
    """A part of the samples is enough to tell that the candidate loses far more than it may."""

    def __init__(self, message: str, alone_ms: float, quality_drop: float) -> None:
        super().__init__(message)
        self.alone_ms, self.quality_drop = alone_ms, quality_drop


def made(
    task: Task, chains: Chains, recipe: Recipe, judge: Judge, rig: Rig, slowest_ms: float
) -> Candidate | Trial | None:
    """What the recipe makes of the task's model; a trial with its failure where that does not run; None where a
    pass has nothing to do on this model. Raises Hopeless where one inference takes longer than `slowest_ms`, Wrong
    where it loses far too much, and PlaceLost."""
    try:
        rig.place.version(recipe.runtime)
        passed = chains.passed(recipe.steps)
        return _measured(task, recipe, passed, judge, rig, slowest_ms, chains.written(recipe.steps))
    except passes.DoesNotApply:
        return None
    except (Hopeless, Wrong, PlaceLost):
        raise
    except EdgewardError as error:
        return failed(recipe, f"{error.message} ({error.hint})" if error.hint else error.message)
    except Exception as error:  # noqa: BLE001 - a third-party quantiser on a model nobody has seen is one failed trial
        _check_space(error, task.model_bytes)
        return failed(recipe, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _check_space(error: Exception, model_bytes: bytes) -> None:
    """Raises OSError where a full disk is the cause; the quantiser's own files, cut short, make it say other things."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise error
    place = Path(tempfile.gettempdir())
    if files.free_bytes(place) < _QUANTISER_COPIES * len(model_bytes):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place)) from error


def failed(recipe: Recipe, reason: str, alone_ms: float | None = None) -> Trial:
    """A recipe that gave nothing to measure, or no more than an inference alone."""
    return Trial(
        recipe=recipe.name, steps=recipe.steps, runtime=recipe.runtime, runtime_version="", precision="", file=None,
        digest=None, failure=reason, alone_ms=alone_ms,
    )  # fmt: skip


def _measured(
    task: Task,
    recipe: Recipe,
    passed: passes.Passed,
    judge: Judge,
    rig: Rig,
    slowest_ms: float,
    written: exporters.Exported | None,
) -> Candidate:
    exporter = exporters.load(runtimes.load(recipe.runtime).formats[0])
    exported = written or _exported(exporter, passed.model, rig)
    file = rig.folder / f"{recipe.name}{exporter.suffix}"
    file.write_bytes(exported.data)
    with rig.place.open(str(file), recipe.runtime, rig.threads[0]) as session:
        predictor = Predictor(session, preprocess=passed.preprocess, postprocess=task.postprocess)
        contender, cost = _cost(task, rig, session, predictor, file, recipe.runtime)
        if slowest_ms < cost.steady_ms < _DOUBTFUL * slowest_ms:  # what else the machine did then is no reason to stop
            cost = min(cost, rig.timed_anew(contender), key=lambda one: one.steady_ms)
        if cost.steady_ms > slowest_ms:
            raise Hopeless(cost.steady_ms, slowest_ms)
        _widen(session, rig, len(exported.data))
        outputs = _answers(predictor, task.evaluation, judge, cost.steady_ms)
        return _candidate(recipe, passed, exported, (contender, cost), session, judge, outputs, rig)


def _cost(
    task: Task, rig: Rig, session: OpenSession, predictor: Predictor, file: Path, runtime: str
) -> tuple[Contender, SoloResult]:
    """The model of that file, loaded in `session` and not run yet, fed with some of the data, and what it costs on the
    threads that suit it."""
    feeds = save_feeds(predictor, task.evaluation, file.with_suffix(".npz"))
    contender = Contender(str(file), runtime, rig.threads[0], str(feeds))
    return _on_fitting_threads(rig, contender, rig.timed(session, contender))


def _candidate(
    recipe: Recipe,
    passed: passes.Passed,
    exported: exporters.Exported,
    measured: tuple[Contender, SoloResult],
    session: OpenSession,
    judge: Judge,
    outputs: NDArray[Any],
    rig: Rig,
) -> Candidate:
    contender, cost = measured
    lost = drop(judge.metric, judge.reference, outputs, judge.targets, seed=judge.seed)
    trial = Trial(
        recipe=recipe.name, steps=recipe.steps, runtime=recipe.runtime,
        runtime_version=rig.place.version(recipe.runtime), file=None,
        precision=_precision(precision_of(passed.model), session.arithmetic),
        digest=codec.digest_of(exported.data), size_bytes=len(exported.data),
        quality={judge.metric.name: judge.metric.score(outputs, judge.targets)},
        quality_drop=lost.value, quality_drop_ci=lost.interval,
        load_ms=cost.load_ms, first_ms=cost.first_ms, peak_memory_bytes=cost.peak_memory_bytes,
        alone_ms=cost.steady_ms, thread_count=contender.threads,
        notes=(
            *passed.notes, *exported.notes, *_told_arithmetic(session.arithmetic),
            *(() if session.placement is None else (session.placement,)),
            *_parity(recipe, judge.reference, outputs),
        ),
    )  # fmt: skip
    return Candidate(trial, exported.data, passed.preprocess, contender, outputs, cost.steady_ms)


def _exported(exporter: exporters.Exporter, model: onnx.ModelProto, rig: Rig) -> exporters.Exported:
    if isinstance(exporter, exporters.Compiler):
        return exporter.compile_for(model, rig.place.facts.arch)
    return exporter.export(model)


def _widen(session: OpenSession, rig: Rig, size_bytes: int) -> None:
    """A model answers all the data in as many copies as there are CPUs, where they fit into half of the free memory."""
    room = rig.place.memory().available_bytes // (2 * _BYTES_OF_A_COPY * size_bytes)
    session.widen(min(rig.place.facts.cpu_count, _MOST_COPIES, room))


def _on_fitting_threads(rig: Rig, contender: Contender, alone: SoloResult) -> tuple[Contender, SoloResult]:
    """The contender on the number of threads that suits it, and what it costs alone; `alone` is on the fewest. Waking
    threads takes longer than a small model does: more of them only where they clearly gain, and none are tried where a
    longer inference in the same runtime gained nothing from them."""
    best, least = contender, alone
    runtime, alone_ms = contender.runtime, least.steady_ms
    if alone_ms <= rig.one_thread_ms.get(runtime, 0.0):
        return best, least
    for threads in rig.threads[1:]:
        other = replace(contender, threads=threads)
        cost = rig.timed_anew(other)
        if cost.steady_ms * _THREADS_GAIN < least.steady_ms:
            best, least = other, cost
    if best is contender:
        rig.one_thread_ms[runtime] = alone_ms
    return best, least


def _answers(predictor: Predictor, data: LoadedSet, judge: Judge, alone_ms: float) -> NDArray[Any]:
    """The answers to all samples. Raises Wrong where a tenth of many proves that the drop is beyond twice the gate."""
    asked, count = judge.metric.name, len(data) // _FEW_SHARE
    if judge.metric.parts is None or count < _LEAST_FEW:
        return answers(predictor, data, metric=asked).outputs
    shuffled = np.random.default_rng(judge.seed).permutation(len(data))
    few, others = np.sort(shuffled[:count]), np.sort(shuffled[count:])
    outputs = answers(predictor, data.part(few), metric=asked).outputs
    lost = drop(judge.metric, judge.reference[few], outputs, judge.targets[few], seed=judge.seed)
    if lost.interval[0] > 2 * judge.max_drop:
        told = f"{asked} is worse by {lost.interval[0]:.3g} or more on {count} of the samples"
        raise Wrong(told, alone_ms, lost.value)
    found = gathered([outputs, answers(predictor, data.part(others), metric=asked).outputs])
    whole = np.empty_like(found)
    whole[np.concatenate((few, others))] = found
    return whole


def _precision(stored: str, computed: str | None) -> str:
    """Of the model as it runs: float weights may be computed in less than they are stored in."""
    return computed if computed is not None and stored.startswith("float") and computed != stored else stored


def _told_arithmetic(computed: str | None) -> tuple[str, ...]:
    return () if computed is None else (f"the runtime computes its convolutions and products in {computed}",)


def save_feeds(predictor: Predictor, data: LoadedSet, file: Path) -> Path:
    """The model's inputs for the first few samples that have the first one's shapes."""
    feeds = [predictor.tensors(data[index]) for index in range(min(len(data), _FEED_SAMPLES))]
    same = [feed for feed in feeds if all(feed[name].shape == feeds[0][name].shape for name in feed)]
    return bench.save_feeds(file, same)


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
