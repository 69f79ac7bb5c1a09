"""What a peer's script is given and what it hands back: SCRIPT CASE OUT. Needs numpy alone, since each peer has an
environment of its own.

CASE is a folder as `prepare.py` makes it: model files, `calibration.npz` and `evaluation.npz` (input tensors by name,
samples on the first axis, preprocessing done, and `labels`) and `task.json`. OUT/made.json says what was made.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Missing(Exception):
    """The case does not have what this peer starts from."""


class Made(NamedTuple):
    """A model file that a peer wrote, the runtime it is for, and the arithmetic it is meant to use."""

    file: Path
    runtime: str
    precision: str


class Case:
    """One case as peers see it. Samples are dictionaries of tensors with a batch axis of 1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        task = json.loads((folder / "task.json").read_text())
        self.metric: str = task["metric"]
        self.max_drop: float = task["max_drop"]
        self.kind: str = task["kind"]
        self.seed: int = task["seed"]

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def file(self, name: str) -> Path:
        """The case's own file of this name. Raises Missing where it has none."""
        if not self.has(name):
            raise Missing(f"the case has no {name}")
        return self.folder / name

    def calibration(self, count: int = 512) -> list[dict[str, np.ndarray]]:
        """At most `count` samples, drawn once for all peers."""
        return _samples(self.folder / "calibration.npz")[0][:count]

    def evaluation(self) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
        """All samples and their labels, for the peers whose method looks at accuracy. Raises Missing without labels."""
        samples, labels = _samples(self.folder / "evaluation.npz")
        if labels is None:
            raise Missing("the case is annotated with boxes or masks, which this script does not score")
        return samples, labels


Variant = Callable[[Case, Path], Made]
"""Makes one model: writes it at or beside the path given, whose name has no suffix yet."""


def main(variants: dict[str, Variant]) -> None:
    """Makes every variant and writes OUT/made.json after each, so that a crash loses only the one at work."""
    case, out = Case(Path(sys.argv[1])), Path(sys.argv[2])
    told: list[dict[str, object]] = []
    for index, (name, variant) in enumerate(variants.items()):
        told.append({"name": name, "failure": "the process died at this one"})
        _write(out, told)
        start = time.perf_counter()
        try:
            made = variant(case, out / f"{Path(sys.argv[0]).stem}-{index}")
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is its row's reason
            if not isinstance(error, Missing):
                traceback.print_exc()
            told[-1]["failure"] = sentence(error)
        else:
            told[-1] = {"name": name, **made._asdict(), "file": str(made.file), "failure": None}
        told[-1]["took_s"] = round(time.perf_counter() - start, 3)
        _write(out, told)


def sentence(error: BaseException) -> str:
    """One line of at most 300 characters."""
    text = " ".join(str(error).split())
    return text[:300] if isinstance(error, Missing) else f"{type(error).__name__}: {text}"[:300]


def _samples(path: Path) -> tuple[list[dict[str, np.ndarray]], np.ndarray | None]:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    labels = arrays.pop("labels", None)
    count = len(next(iter(arrays.values())))
    return [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)], labels


def _write(out: Path, told: list[dict[str, object]]) -> None:
    (out / "made.json").write_text(json.dumps(told, indent=1))
