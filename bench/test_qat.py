"""What few bits cost, and what edgeward qat wins back: top-1 of int8 files in ONNX Runtime, on the evaluation data.

Needs torch, and EDGEWARD_BENCH_CASE: a case folder of a classifier as bench/optimize_vs_peers/README.md has it, with
EDGEWARD_BENCH_TRAIN, the folder it was trained on. Prints a table; asserts nothing.
"""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from bench.optimize_vs_peers.cases import open_case, read_case

from edgeward.infer import Predictor, runtimes
from edgeward.kit import codec
from edgeward.measure.dataset import LoadedSet, open_dataset
from edgeward.measure.statistics import paired_share_interval
from edgeward.optimize import passes, readers
from edgeward.optimize.inspect import describe
from edgeward.records.candidate import Step
from edgeward.records.model import Preprocess, PreprocessFile, TensorSpec

CASE, TRAIN = Path(os.environ.get("EDGEWARD_BENCH_CASE", "case")), Path(os.environ.get("EDGEWARD_BENCH_TRAIN", "train"))
TRAIN_SAMPLES, EPOCHS = 10_000, 2

pytest.importorskip("torch")
from edgeward.optimize.training import qat  # noqa: E402 - torch may be missing


class Silent:
    def stage(self, text: str, done: float) -> None: ...


@pytest.mark.skipif(not (CASE / "case.toml").exists(), reason="EDGEWARD_BENCH_CASE names no case folder")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("bits", "per_channel"), [(4, False), (4, True)], ids=["per tensor", "per channel"])
def test_four_bits_before_and_after_training(bits, per_channel, tmp_path):
    opened = open_case(read_case(CASE))
    model = readers.read_model(opened.case.model)
    steps = codec.from_toml(opened.case.preprocess, PreprocessFile).preprocess if opened.case.preprocess else ()
    inputs = tuple(TensorSpec(name=s.name, dtype=s.dtype, shape=s.shape[1:]) for s in describe(model).inputs)
    train = open_dataset(TRAIN, inputs)
    train = train.part(np.sort(np.random.default_rng(1).permutation(len(train))[:TRAIN_SAMPLES]))
    evaluation = open_dataset(CASE / "evaluation", inputs)
    samples = qat.read_samples(model, train, steps, tmp_path, 0)
    rounding = qat.Rounding(bits, per_channel=per_channel)
    given = right(model, evaluation, steps)
    print(f"\nfloat {given.mean():.4f}")
    for epochs in (0, EPOCHS):
        made = qat.harden(model, "model", samples, rounding, epochs=epochs, seed=0, progress=Silent())
        found = right(in_int8(made.model, train, steps), evaluation, steps)
        low, high = paired_share_interval(given, found)
        print(f"{epochs} epochs {found.mean():.4f}, drop {given.mean() - found.mean():+.4f} [{low:+.4f}, {high:+.4f}]")


def in_int8(model: onnx.ModelProto, train: LoadedSet, steps: Preprocess) -> onnx.ModelProto:
    context = passes.Context([train[index] for index in range(256)], train.kind, steps)
    return passes.load("quantize-static").apply(model, Step(use="quantize-static"), context).model


def right(model: onnx.ModelProto, data: LoadedSet, steps: Preprocess) -> np.ndarray:
    session = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)
    found = np.concatenate([group[0] for group in Predictor(session, preprocess=steps).outputs_of(data)])
    return found.reshape(len(found), -1).argmax(axis=1) == data.labels
