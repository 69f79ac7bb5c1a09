"""Who belongs to whom: the pairing of most weight in all."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def best_pairs(weights: NDArray[Any], least: float) -> list[tuple[int, int]]:
    """Rows and columns, each at most once, so that the sum of weights is as large as can be; pairs below `least`, or
    of no weight, are none.

    Exact: what can be paired falls into small groups, each solved by the Hungarian method (Jonker and Volgenant's
    shortest augmenting paths).
    """
    allowed = (weights >= least) & (weights > 0)
    pairs: list[tuple[int, int]] = []
    for rows, columns in _groups(allowed):
        if len(rows) == len(columns) == 1:
            pairs.append((rows[0], columns[0]))
            continue
        part = np.where(allowed, weights, 0.0)[np.ix_(rows, columns)].astype(np.float64)
        turned = len(rows) > len(columns)
        for row, column in enumerate(_columns_of(-(part.T if turned else part))):
            place = (rows[column], columns[row]) if turned else (rows[row], columns[column])
            if allowed[place]:
                pairs.append(place)
    return sorted(pairs)


def _groups(allowed: NDArray[np.bool_]) -> list[tuple[list[int], list[int]]]:
    """Rows and columns that are connected by pairs that may be."""
    of_row: dict[int, list[int]] = {}
    of_column: dict[int, list[int]] = {}
    for row, column in zip(*(axis.tolist() for axis in np.nonzero(allowed)), strict=True):
        of_row.setdefault(row, []).append(column)
        of_column.setdefault(column, []).append(row)
    groups = []
    while of_row:
        rows, columns, waiting = [], set(), [next(iter(of_row))]
        while waiting:
            row = waiting.pop()
            if row not in of_row:
                continue
            rows.append(row)
            for column in of_row.pop(row):
                if column not in columns:
                    columns.add(column)
                    waiting.extend(of_column[column])
        groups.append((sorted(rows), sorted(columns)))
    return groups


def _columns_of(cost: NDArray[np.float64]) -> list[int]:
    """The column of each row in the assignment of least cost; there are at least as many columns as rows."""
    rows, columns = cost.shape
    of_row, of_column = np.zeros(rows + 1), np.zeros(columns + 1)  # potentials; place 0 is a column that starts a path
    taken, before = np.zeros(columns + 1, np.int64), np.zeros(columns + 1, np.int64)
    for row in range(1, rows + 1):
        taken[0], column = row, 0
        distance, seen = np.full(columns + 1, np.inf), np.zeros(columns + 1, bool)
        while True:
            seen[column] = True
            here = cost[taken[column] - 1] - of_row[taken[column]] - of_column[1:]
            nearer = ~seen[1:] & (here < distance[1:])
            distance[1:][nearer], before[1:][nearer] = here[nearer], column
            column = int(np.where(seen, np.inf, distance)[1:].argmin()) + 1
            step = distance[column]
            of_row[taken[seen]] += step
            of_column[seen] -= step
            distance[~seen] -= step
            if not taken[column]:
                break
        while column:
            taken[column] = taken[before[column]]
            column = int(before[column])
    found = [0] * rows
    for column in range(1, columns + 1):
        if taken[column]:
            found[taken[column] - 1] = column - 1
    return found
