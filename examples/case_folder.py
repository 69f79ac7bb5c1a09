"""What the larger examples leave behind: a case, a folder that `edgeward optimize` and the benchmarks take as it is.

model.onnx (the batch dimension is free), model.pt2 (a PyTorch exported program of one sample), evaluation and
calibration data, preprocess.toml where raw samples need it, and case.toml, which says how to judge the model.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

CHECKED = 100
"""So many samples show that the exported file answers as PyTorch does."""


def new_folder(parser: argparse.ArgumentParser, folder: Path) -> None:
    """Makes `folder`, or ends the program with one sentence when something stands there already."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        parser.error(f"{folder}: there is something in it; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)


def describe(
    folder: Path, *, name: str, kind: Literal["vision", "audio", "tabular", "sequence"], metric: str, max_drop: float
) -> None:
    """Writes case.toml."""
    text = f'name = "{name}"\nkind = "{kind}"\nmetric = "{metric}"\nmax_drop = {max_drop}\n'
    (folder / "case.toml").write_text(text, encoding="utf-8")


def export(model: nn.Module, folder: Path, samples: torch.Tensor, *, takes: str, gives: str) -> NDArray[np.float32]:
    """Writes model.onnx and model.pt2; returns what the former answers to `samples`.

    Raises ValueError when that is not what PyTorch answers.
    """
    model.eval()
    torch.onnx.export(
        model, (samples[:2],), folder / "model.onnx", dynamo=True, external_data=False, input_names=[takes],
        output_names=[gives], dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
    )  # fmt: skip
    _without_notes(folder / "model.onnx")
    torch.export.save(torch.export.export(model, (samples[:1],)), folder / "model.pt2")
    answers = answers_of(folder / "model.onnx", {takes: samples.numpy()})[0]
    with torch.no_grad():
        expected = model(samples[:CHECKED]).numpy()
    if not np.allclose(answers[:CHECKED], expected, rtol=1e-3, atol=1e-3):
        raise ValueError("ONNX Runtime does not answer as PyTorch does")
    return answers


def _without_notes(file: Path) -> None:
    """Takes out the exporter's notes, which say where on this machine the code stands."""
    model = onnx.load(file)
    for part in (model.graph, *model.graph.node, *model.graph.value_info):
        part.ClearField("metadata_props")
    onnx.checker.check_model(model)
    onnx.save(model, file)


def answers_of(file: Path, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """All outputs of the ONNX file for `inputs`, a hundred samples at a time."""
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    count = len(next(iter(inputs.values())))
    parts = [
        session.run(None, {name: array[start : start + 100] for name, array in inputs.items()})
        for start in range(0, count, 100)
    ]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]
