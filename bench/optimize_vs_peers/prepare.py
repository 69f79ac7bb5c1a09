"""A case → what peers are given: links to its model files, and its samples as input tensors."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from bench.optimize_vs_peers.cases import MODEL_FILES, Opened
from numpy.typing import NDArray

from edgeward.infer import Predictor
from edgeward.measure.dataset import LoadedSet

_CALIBRATION_SAMPLES = 512
"""As many as `edgeward optimize` takes, drawn in the same way."""


def prepare(opened: Opened, folder: Path, *, seed: int) -> None:
    """Writes model files, `calibration.npz`, `evaluation.npz` and `task.json` into the new folder."""
    folder.mkdir(parents=True)
    case = opened.case
    for name in MODEL_FILES:
        if (case.folder / name).exists():
            os.symlink((case.folder / name).resolve(), folder / name)
    predictor = Predictor(opened.session, preprocess=opened.steps)
    drawn = np.random.default_rng(seed).permutation(len(opened.calibration))[:_CALIBRATION_SAMPLES]
    np.savez(folder / "calibration.npz", **_tensors(predictor, opened.calibration.part(np.sort(drawn)), shuffle=seed))
    np.savez(folder / "evaluation.npz", **_tensors(predictor, opened.evaluation))
    task = {"metric": case.metric, "max_drop": case.max_drop, "kind": case.kind, "seed": seed}
    (folder / "task.json").write_text(json.dumps(task))


def _tensors(predictor: Predictor, data: LoadedSet, *, shuffle: int | None = None) -> dict[str, NDArray[Any]]:
    """Input tensors by name and `labels`, but for boxes and masks, which peers do not read. Shuffled, so that the first
    few are of all classes."""
    order = np.arange(len(data))
    if shuffle is not None:
        np.random.default_rng(shuffle).shuffle(order)
    samples = [predictor.tensors(data[index]) for index in order]
    arrays = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    if data.labels is not None and data.annotation is None:
        arrays["labels"] = data.labels[order]
    return arrays
