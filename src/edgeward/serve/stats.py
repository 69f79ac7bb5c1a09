"""Requests → numbers: counts, histograms and recent percentiles of one model.

One owner, the event loop, writes them; so a request costs a few additions and no lock.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

BUCKETS_S = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""From the smallest model on a desk to the largest on a board."""

STAGES = ("pre", "infer", "post")
RECENT = 1024
"""Percentiles are of this many requests at most: what the device does now, not what it did last week."""


class Spent(NamedTuple):
    """Where one request's time went, in seconds. `total` is more than its parts by waiting and reading."""

    pre: float
    infer: float
    post: float
    total: float


class Histogram:
    """How often a duration fell into each bucket."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Pairs of upper bound and how many were at most that long, as Prometheus wants them."""
        bounds = [*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"]
        return list(zip(bounds, np.cumsum(self.counts).tolist(), strict=True))


class ModelStats:
    """What one model was asked and how long it took."""

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.in_flight = 0
        self.samples = 0
        self.stages = {stage: Histogram() for stage in STAGES}
        self.recent: deque[Spent] = deque(maxlen=RECENT)
        self.total_s = 0.0

    def answered(self, spent: Spent, samples: int) -> None:
        """A request was answered well."""
        stages = self.stages
        stages["pre"].add(spent.pre)
        stages["infer"].add(spent.infer)
        stages["post"].add(spent.post)
        self.recent.append(spent)
        self.samples += samples
        self.total_s += spent.total

    def ended(self, code: int) -> None:
        """A request ended with this HTTP status."""
        self.codes[code] = self.codes.get(code, 0) + 1

    @property
    def requests(self) -> int:
        return sum(self.codes.values())

    @property
    def errors(self) -> int:
        return sum(count for code, count in self.codes.items() if code >= 400)

    @property
    def dropped(self) -> int:
        """Requests that were told to come back later; they are among the errors."""
        return self.codes.get(503, 0)


class Percentiles(msgspec.Struct):
    p50: float
    p95: float
    p99: float


def percentiles_ms(recent: Sequence[Spent]) -> dict[str, Percentiles]:
    """By stage, and of the whole request ("total"), in milliseconds; empty before the first request."""
    if not recent:
        return {}
    rows = np.percentile(np.array(recent) * 1e3, [50, 95, 99], axis=0).T.round(4).tolist()
    return {stage: Percentiles(*row) for stage, row in zip(Spent._fields, rows, strict=True)}


def summary(stats: ModelStats) -> dict[str, Any]:
    """The numbers as JSON: what Triton's statistics call them, and beside it percentiles of the latest requests."""
    answered = stats.codes.get(200, 0)
    named = {"compute_input": "pre", "compute_infer": "infer", "compute_output": "post"}
    spent = {"success": stats.total_s, **{name: stats.stages[stage].sum_s for name, stage in named.items()}}
    return {
        "inference_count": stats.samples,
        "execution_count": answered,
        "inference_stats": {name: {"count": answered, "ns": int(value * 1e9)} for name, value in spent.items()},
        "requests": stats.requests,
        "errors": stats.errors,
        "dropped": stats.dropped,
        "in_flight": stats.in_flight,
        "latency_ms": percentiles_ms(stats.recent),
        "latency_requests": len(stats.recent),
    }
