"""A case: one model, its data, and how it is judged. The folder's layout is in README.md."""

import hashlib
import tomllib
from pathlib import Path
from typing import NamedTuple

from edgeward.infer import Predictor, runtimes
from edgeward.infer.runtimes import Session
from edgeward.kit import codec
from edgeward.kit.errors import WrongInput
from edgeward.measure.annotated import detect_step
from edgeward.measure.dataset import LoadedSet, open_dataset
from edgeward.measure.fit import fit_steps
from edgeward.records.model import Postprocess, Preprocess, PreprocessFile, TensorSpec

MODEL_FILES = ("model.onnx", "model.pt2", "model.tflite", "model.h5")


class Case(NamedTuple):
    """`folder` is as its maker wrote it; the paths are those of its data and steps.

    `size_share` and `seconds` are promises of this case alone: Edgeward's file as a share of the float file, and how
    long its search may take.
    """

    folder: Path
    name: str
    metric: str
    max_drop: float
    kind: str
    evaluation: Path
    calibration: Path
    preprocess: Path | None
    size_share: float | None = None
    seconds: float | None = None

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    def digest(self) -> str:
        """Of all files of the case, by name and content."""
        whole = hashlib.sha256()
        parts = [part for part in self.folder.iterdir() if part.is_file()]
        parts += [file for data in (self.evaluation, self.calibration) for file in data.rglob("*") if file.is_file()]
        for file in sorted(set(parts)):
            whole.update(f"{file.relative_to(self.folder)} {file.stat().st_size}\n".encode() + file.read_bytes())
        return whole.hexdigest()


class Opened(NamedTuple):
    """A case with its float model loaded in ONNX Runtime, its data sets, the steps between them, and those that read
    boxes out of answers."""

    case: Case
    session: Session
    inputs: tuple[TensorSpec, ...]
    evaluation: LoadedSet
    calibration: LoadedSet
    steps: Preprocess
    reading: Postprocess = ()


def find_cases(folder: Path) -> list[Case]:
    """The cases in `folder`, or the one that it is. Raises WrongInput where there is none."""
    files = [folder / "case.toml"] if (folder / "case.toml").exists() else sorted(folder.glob("*/case.toml"))
    if not files:
        raise WrongInput(f"{folder}: no case here; wanted folders with a case.toml")
    return [read_case(file.parent) for file in files]


def read_case(folder: Path) -> Case:
    try:
        told = tomllib.loads((folder / "case.toml").read_text(encoding="utf-8"))
    except ValueError as error:
        raise WrongInput(f"{folder / 'case.toml'} is no TOML: {error}") from error
    missing = [key for key in ("name", "metric", "max_drop", "kind") if key not in told]
    if missing or not (folder / "model.onnx").exists():
        raise WrongInput(f"{folder}: this case has no {missing[0] if missing else 'model.onnx'}")
    steps = folder / "preprocess.toml"
    return Case(
        folder, told["name"], told["metric"], told["max_drop"], told["kind"], _data(folder, "evaluation"),
        _data(folder, "calibration"), steps if steps.exists() else None, told.get("max_size_share"),
        told.get("max_seconds"),
    )  # fmt: skip


def open_case(case: Case) -> Opened:
    session = runtimes.load("onnxruntime").load(case.model.read_bytes(), threads=1)
    inputs = tuple(TensorSpec(name=spec.name, dtype=spec.dtype, shape=spec.shape[1:]) for spec in session.inputs)
    evaluation = open_dataset(case.evaluation, inputs, session.outputs)
    calibration = open_dataset(case.calibration, inputs, session.outputs)
    said = codec.from_toml(case.preprocess, PreprocessFile) if case.preprocess is not None else None
    steps = said.preprocess if said is not None else fit_steps(inputs[0], evaluation.kind, evaluation[0])
    reading = said.postprocess if said is not None else ()
    if evaluation.annotation == "boxes" and not reading:
        reading = (detect_step(Predictor(session, preprocess=steps), evaluation),)
    return Opened(case, session, inputs, evaluation, calibration, steps, reading)


def _data(folder: Path, name: str) -> Path:
    file = folder / f"{name}.npz"
    found = file if file.exists() else folder / name
    if not found.exists():
        raise WrongInput(f"{folder}: this case has no {name} and no {name}.npz")
    return found
