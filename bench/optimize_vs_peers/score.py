"""One scorer for every model: input tensors go in one by one, the first output is judged by the case's metric."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bench.optimize_vs_peers.cases import Case, Opened, open_case
from bench.optimize_vs_peers.engines import Engine, open_engine
from numpy.typing import NDArray

from edgeward.bundle import find_bundle, open_predictor, trusted_keys, verify
from edgeward.infer import Predictor
from edgeward.infer.runtimes.base import Tensors
from edgeward.measure.dataset import LoadedSet, open_dataset
from edgeward.measure.evaluate import answers
from edgeward.records.model import TensorSpec


class Scored(NamedTuple):
    """The first output over the evaluation data, and what it is judged by."""

    outputs: NDArray[Any]
    targets: NDArray[Any]


class Fed:
    """A peer's engine in the clothes of the case's model: its input names and true values, batch by ones."""

    def __init__(self, engine: Engine, opened: Opened) -> None:
        self._engine = engine
        self._order = [spec.name for spec in opened.inputs]
        self.inputs = tuple(_of_one(spec) for spec in opened.session.inputs)
        self.outputs = tuple(_of_one(spec) for spec in opened.session.outputs[:1])
        self._first = first_output(engine, self.outputs[0])

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        tensors = native(self._engine, [feeds[name] for name in self._order])
        value = self._engine.run(tensors)[self._first]
        return [self._engine.outputs[self._first].dequantised(np.array(value))]


def score_peer(opened: Opened, prepared: LoadedSet, runtime: str, file: Path) -> Scored:
    """`prepared` holds the evaluation data as input tensors. Boxes and masks are annotated in the raw images, so there
    these go in, through the case's own steps."""
    fed = Fed(open_engine(runtime, file), opened)
    if opened.evaluation.annotation is None:
        found = answers(Predictor(fed), prepared, metric=opened.case.metric)
    else:
        predictor = Predictor(fed, preprocess=opened.steps, postprocess=opened.reading)
        found = answers(predictor, opened.evaluation, metric=opened.case.metric)
    return _checked(found.outputs, found.targets)


def score_edgeward(case: Case, out: Path) -> Scored:
    """From the bundle, in a process of its own: LiteRT decides once in a process which kernels it takes."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_score_bundle, case, out).result()


def _score_bundle(case: Case, out: Path) -> Scored:
    """With the steps that it says; raw samples go in."""
    opened = open_case(case)
    verified = verify(find_bundle(out / "bundle"), trusted_keys())
    predictor = open_predictor(verified, threads=1)
    data = open_dataset(opened.case.evaluation, verified.manifest.inputs, predictor.session.outputs)
    found = answers(predictor, data, metric=opened.case.metric)
    return _checked(found.outputs, found.targets)


def native(engine: Engine, tensors: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Tensors of true values, in the case's order, as the engine takes them."""
    return [
        port.quantised(tensor).reshape(port.shape if tensor.size == np.prod(port.shape) else tensor.shape)
        for port, tensor in zip(engine.inputs, tensors, strict=True)
    ]


def first_output(engine: Engine, wanted: TensorSpec) -> int:
    """Which of the engine's outputs is the case's first: by name, else by shape, else the first."""
    for index, port in enumerate(engine.outputs):
        if port.name == wanted.name:
            return index
    shapes = [port.shape[1:] for port in engine.outputs]
    return shapes.index(wanted.shape[1:]) if wanted.shape[1:] in shapes else 0


def _of_one(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(name=spec.name, dtype=spec.dtype, shape=(1, *spec.shape[1:]))


def _checked(outputs: NDArray[Any], targets: NDArray[Any] | None) -> Scored:
    if targets is None:
        raise ValueError("the evaluation data have no labels")
    return Scored(outputs, targets)
