"""Names of classes; labels of files: by subfolder, by labels.csv, or by a file's name up to its first underscore."""

import csv
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import WrongInput


def class_names_of(names: Collection[str]) -> tuple[str, ...]:
    """Class names in the order of their class numbers: by number where all are numbers, else by the alphabet."""
    if all(name.isdigit() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def read_class_names(path: Path) -> tuple[str, ...]:
    """One class name per line of a text file; empty lines at the end do not count."""
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines())
    except UnicodeDecodeError as error:
        raise WrongInput(f"{path}: is no text in UTF-8; wanted one class name per line") from error
    if not names:
        raise WrongInput(f"{path}: is empty; wanted one class name per line")
    if "" in names:
        raise WrongInput(f"{path}: line {names.index('') + 1} is empty; wanted one class name per line")
    return names


def labels_of_files(root: Path, files: Sequence[Path]) -> tuple[NDArray[Any] | None, tuple[str, ...]]:
    """Class numbers of `files` (or float targets from labels.csv) and the class names; (None, ()) without labels."""
    listed = root / "labels.csv"
    if listed.exists():
        return _from_csv(root, listed, files)
    below = [file.parts[len(root.parts) :] for file in files]
    if all(len(parts) > 1 for parts in below):
        return _numbered([parts[0] for parts in below])
    if any(len(parts) > 1 for parts in below):
        raise WrongInput(f"{root}: some files stand in class folders and some beside them", hint=f"ls {root}")
    prefixes = [file.stem.split("_")[0] for file in files]
    if all("_" in file.stem for file in files) and len(set(prefixes)) < len(files):
        return _numbered(prefixes)
    return None, ()


def _numbered(names: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    classes = class_names_of(set(names))
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[name] for name in names], np.int64), classes


def _from_csv(root: Path, listed: Path, files: Sequence[Path]) -> tuple[NDArray[Any], tuple[str, ...]]:
    try:
        with listed.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise WrongInput(f"{listed}: this is no readable CSV ({error})") from error
    if rows and not (root / rows[0][0]).exists():
        rows = rows[1:]
    if any(len(row) < 2 for row in rows):
        raise WrongInput(f"{listed}: each row wants a file name and a label")
    labels = {row[0].strip(): row[1].strip() for row in rows}
    names = [str(file.relative_to(root)) for file in files]
    unlabelled = [name for name in names if name not in labels]
    if unlabelled:
        raise WrongInput(
            f"{listed}: {len(unlabelled)} of {len(names)} files have no label, the first is {unlabelled[0]}"
        )
    strangers = set(labels) - set(names)
    if strangers:
        raise WrongInput(f"{listed}: labels a file that is not there: {sorted(strangers)[0]}")
    return _numbered([labels[name] for name in names])
