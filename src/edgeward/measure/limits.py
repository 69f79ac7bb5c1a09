"""A budget as people write it, and which of its limits a trial did not keep."""

import re

from msgspec.structs import asdict

from edgeward.kit.errors import WrongInput
from edgeward.records.candidate import Trial, Violation
from edgeward.records.target import Budget

_FIELDS = {
    "p50": "latency_p50_ms",
    "p95": "latency_p95_ms",
    "p99": "latency_p99_ms",
    "cold-start": "cold_start_ms",
    "size": "bundle_bytes",
    "peak-memory": "peak_memory_bytes",
    "energy": "energy_mj",
}
_UNITS = {
    "_ms": {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3},
    "_bytes": {"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "_mj": {"uJ": 1e-3, "µJ": 1e-3, "mJ": 1.0, "J": 1e3},
}


def parse_budget(text: str) -> Budget:
    """ "p95<8ms,size<1MB" as a Budget. Raises WrongInput that names the part it cannot read."""
    limits: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([a-z0-9-]+)\s*<=?\s*([0-9.]+(?:e[+-]?\d+)?)\s*([A-Za-zµ]+)", part)
        if match is None:
            raise WrongInput(f"--budget: cannot read {part!r}", hint='--budget "p95<8ms,size<1MB,peak-memory<64MB"')
        field = _FIELDS.get(match[1])
        if field is None:
            raise WrongInput(f"--budget: there is no limit {match[1]!r}; there are {', '.join(_FIELDS)}")
        units = next(units for ending, units in _UNITS.items() if field.endswith(ending))
        if match[3] not in units:
            raise WrongInput(f"--budget: {match[1]} has no unit {match[3]!r}; it has {', '.join(units)}")
        try:
            value = float(match[2]) * units[match[3]]
        except ValueError:
            raise WrongInput(f"--budget: {match[2]!r} in {part!r} is no number") from None
        if value <= 0:
            raise WrongInput(f"--budget: {part!r} wants a limit above zero")
        limits[field] = int(value) if field.endswith("_bytes") else value
    return Budget(**limits)  # type: ignore[arg-type]


def violations_of(trial: Trial, budget: Budget, max_drop: float) -> tuple[Violation, ...]:
    """The limits that a measured trial did not keep; empty when it kept all of them."""
    latency = trial.latency_ms
    cold = None if trial.load_ms is None or trial.first_ms is None else trial.load_ms + trial.first_ms
    measured = {
        "latency_p50_ms": latency.p50 if latency else None,
        "latency_p95_ms": latency.p95 if latency else None,
        "latency_p99_ms": latency.p99 if latency else None,
        "cold_start_ms": cold,
        "bundle_bytes": trial.size_bytes,
        "peak_memory_bytes": trial.peak_memory_bytes,
        "energy_mj": trial.energy.gross_mj if trial.energy else None,
    }
    limits = asdict(budget)
    found = [
        Violation(limit=name, allowed=float(limits[name]), measured=float(value))
        for name, value in measured.items()
        if limits[name] is not None and value is not None and value > limits[name]
    ]
    if trial.quality_drop is not None and not trial.quality_drop <= max_drop:
        found.insert(0, Violation(limit="quality_drop", allowed=max_drop, measured=trial.quality_drop))
    return tuple(found)


def excess(violations: tuple[Violation, ...]) -> float:
    """How far a trial is from keeping its limits: the sum of what each is over, relative to what was allowed.

    A drop is taken in points of a hundredth, because its limit may be zero.
    """
    return sum(
        (v.measured - v.allowed) / 0.01 if v.limit == "quality_drop" else v.measured / v.allowed - 1 for v in violations
    )
