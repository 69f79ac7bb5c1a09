"""Parts and their promises → Markdown, and the intervals they carry. Rules only."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy.stats import t

Numbers = NDArray[np.float64]
Found = tuple[float, tuple[float, float]]
"""A value and its 95 % interval."""


class Check(Struct, frozen=True):
    """A promise, whether it was kept, and the figures."""

    promise: str
    kept: bool
    figures: str


class Part(Struct, frozen=True):
    """What one part of the benchmark found. `text` is Markdown."""

    title: str
    text: str
    checks: list[Check]


def to_markdown(parts: Sequence[Part]) -> str:
    """Each part, then every promise with its figures."""
    lines = [line for part in parts for line in (f"### {part.title}", "", part.text, "")]
    lines += ["### Promises", ""]
    lines += [f"- {'kept' if one.kept else '**not kept**'}: {one.promise}: {one.figures}" for one in _checks(parts)]
    return "\n".join(lines) + "\n"


def _checks(parts: Iterable[Part]) -> list[Check]:
    return [check for part in parts for check in part.checks]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mean_ratio(first: Sequence[float], second: Sequence[float]) -> Found:
    """Geometric mean of first / second over rounds in which both were measured, and Student's interval of it."""
    logs = np.log(np.array(first) / np.array(second))
    value, (low, high) = mean(logs)
    return math.exp(value), (math.exp(low), math.exp(high))


def mean(values: Sequence[float] | Numbers) -> Found:
    count = len(values)
    value = float(np.mean(values))
    if count < 2:
        return value, (-math.inf, math.inf)
    reach = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return value, (value - reach, value + reach)


def resampled(first: Numbers, second: Numbers, statistic: Callable[[Numbers, Numbers], float]) -> Found:
    """`statistic` of two runs whose samples were taken in turn; its interval by drawing blocks of neighbours anew."""
    count = len(first)
    block = max(1, round(count ** (1 / 3)))
    generator = np.random.default_rng(0)
    values = []
    for _ in range(400):
        starts = generator.integers(0, count - block + 1, math.ceil(count / block))
        rows = (starts[:, None] + np.arange(block)).reshape(-1)[:count]
        values.append(statistic(first[rows], second[rows]))
    low, high = np.quantile(values, (0.025, 0.975))
    return statistic(first, second), (float(low), float(high))


def slope(x: Numbers, y: Numbers) -> Found:
    """Of y over x by least squares, with its interval."""
    design: NDArray[Any] = np.stack([np.ones_like(x), x], axis=1)
    (_, gain), *_ = np.linalg.lstsq(design, y, rcond=None)
    rest = y - y.mean() - gain * (x - x.mean())
    error = math.sqrt(float(rest @ rest) / (len(x) - 2) / float((x - x.mean()) @ (x - x.mean())))
    reach = float(t.ppf(0.975, len(x) - 2)) * error
    return float(gain), (float(gain) - reach, float(gain) + reach)


def told(found: Found, form: str = ".2f") -> str:
    value, (low, high) = found
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def quantile(values: Numbers, share: float) -> float:
    return float(np.quantile(values, share))
