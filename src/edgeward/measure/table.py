"""Tables as samples: a row is a sample, or rows of a series are cut into windows, whichever the model's input is."""

import csv
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.records.model import TensorSpec

LABEL_COLUMNS = ("label", "labels", "target", "y")
IGNORED_COLUMNS = ("time", "timestamp", "date")
SERIES_COLUMN = "series"


def read_table(path: Path, spec: TensorSpec) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
    """Samples on the first axis, and the labels or None.

    The label is the column `label`, `labels`, `target` or `y`; `time`, `timestamp` and `date` are left out; every
    other column is a feature, in the table's order. A row is one sample when the model takes as many numbers as
    there are features. Else rows become windows without overlap, as long as the model's time axis, that never
    cross from one value of the column `series` to another; a window has the label of its last row.
    """
    header, rows = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    label_at = next((header.index(name) for name in LABEL_COLUMNS if name in header), None)
    series_at = header.index(SERIES_COLUMN) if SERIES_COLUMN in header else None
    feature_at = [
        index for index, name in enumerate(header) if index not in (label_at, series_at) and name not in IGNORED_COLUMNS
    ]
    if not feature_at:
        raise WrongInput(f"{path}: there is no feature column; it has {', '.join(header) or 'no header'}")
    features = _numbers(path, header, rows, feature_at).astype(np.float32)
    labels = None if label_at is None else _labels([row[label_at] for row in rows])
    series = np.array(["" if series_at is None else row[series_at] for row in rows])
    return _as_samples(path, spec, features, labels, series)


def read_columns(path: Path, specs: Sequence[TensorSpec]) -> tuple[dict[str, NDArray[Any]], NDArray[Any] | None]:
    """Samples and labels for a model with one input for each column, called as the columns are."""
    header, rows = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    names = {spec.name for spec in specs}
    missing = sorted(names - set(header))
    if missing:
        raise WrongInput(f"{path}: there is no column {missing[0]!r}; it has {', '.join(header) or 'no header'}")
    columns = {spec.name: _column(path, header, rows, spec) for spec in specs}
    label_at = next((header.index(name) for name in LABEL_COLUMNS if name in header and name not in names), None)
    return columns, None if label_at is None else _labels([row[label_at] for row in rows])


def _column(path: Path, header: list[str], rows: list[list[str]], spec: TensorSpec) -> NDArray[Any]:
    if any(dim != 1 for dim in spec.shape):
        shape = "x".join(str(dim) for dim in spec.shape)
        raise WrongInput(f"{path}: a column gives one number per sample, input {spec.name!r} wants {shape}")
    place = header.index(spec.name)
    if spec.dtype == "string":
        return np.array([row[place] for row in rows]).reshape(-1, *spec.shape)
    numbers = _numbers(path, header, rows, [place]).reshape(-1, *spec.shape)
    if spec.dtype.startswith(("int", "uint")):
        if (numbers != np.rint(numbers)).any():
            raise WrongInput(f"{path}: column {spec.name!r} holds fractions, the model wants {spec.dtype}")
        return numbers.astype(spec.dtype)
    return numbers


def _read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise WrongInput(f"{path}: this is no readable CSV ({error})") from error
    if len(rows) < 2:
        raise WrongInput(f"{path}: wanted a header and at least one row, got {len(rows)} lines")
    header = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise WrongInput(f"{path}: line {number} has {len(row)} cells, the header has {len(header)}")
    return header, rows[1:]


def _read_parquet(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise Unsupported(f"{path}: reading .parquet needs pyarrow", hint="pip install 'edgeward[parquet]'") from error
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise WrongInput(f"{path}: this is no readable parquet file") from error
    rows = [["" if cell is None else str(cell) for cell in row.values()] for row in table.to_pylist()]
    if not rows:
        raise WrongInput(f"{path}: there is no row in it")
    return list(table.column_names), rows


def _numbers(path: Path, header: list[str], rows: list[list[str]], columns: Sequence[int]) -> NDArray[np.float64]:
    values = np.empty((len(rows), len(columns)), np.float64)
    for number, row in enumerate(rows):
        for place, column in enumerate(columns):
            try:
                value = float(row[column])
            except ValueError:
                raise WrongInput(
                    f"{path}: line {number + 2}, column {header[column]!r}: {row[column]!r} is no number"
                ) from None
            if not math.isfinite(value):
                raise WrongInput(f"{path}: line {number + 2}, column {header[column]!r}: {row[column]!r} is not finite")
            values[number, place] = value
    return values


def _labels(cells: Sequence[str]) -> NDArray[Any]:
    """Whole numbers as classes, other numbers as targets, anything else as class names."""
    try:
        return np.array([int(cell) for cell in cells], np.int64)
    except ValueError:
        pass
    try:
        return np.array([float(cell) for cell in cells], np.float32)
    except ValueError:
        return np.array([cell.strip() for cell in cells])


def _as_samples(
    path: Path, spec: TensorSpec, features: NDArray[np.float32], labels: NDArray[Any] | None, series: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
    columns = features.shape[1]
    dims = [dim for dim in spec.shape if dim != 1]
    fixed = [dim for dim in dims if isinstance(dim, int)]
    if len(fixed) == len(dims) and math.prod(fixed) == columns:
        return features.reshape(-1, *[dim for dim in spec.shape if isinstance(dim, int)]), labels
    if len(fixed) == len(dims) == 2 and columns in fixed:
        length, channels_last = (fixed[0], True) if fixed[1] == columns else (fixed[1], False)
    elif len(fixed) == len(dims) == 1 and columns == 1:
        length, channels_last = fixed[0], True
    else:
        shape = "x".join(str(dim) for dim in spec.shape)
        raise WrongInput(f"{path}: {columns} feature columns do not make an input {spec.name!r} of {shape} per sample")
    ends = _window_ends(series, length)
    if not ends:
        raise WrongInput(f"{path}: no series has {length} rows, the length of the model's window")
    windows = np.stack([features[end - length : end] for end in ends])
    if not channels_last:
        windows = windows.transpose(0, 2, 1)
    chosen = None if labels is None else labels[[end - 1 for end in ends]]
    per_sample = [dim for dim in spec.shape if isinstance(dim, int)]
    return np.ascontiguousarray(windows).reshape(-1, *per_sample), chosen


def _window_ends(series: NDArray[Any], length: int) -> list[int]:
    breaks = [0, *(np.flatnonzero(series[1:] != series[:-1]) + 1).tolist(), len(series)]
    return [end for start, stop in pairwise(breaks) for end in range(start + length, stop + 1, length)]
