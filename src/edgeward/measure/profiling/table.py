"""A profile's layers as rows for people and for spreadsheets."""

import csv
import io
from collections.abc import Sequence

from edgeward.records.profile import ModelProfile, ProfiledLayer

COLUMNS = (
    "place", "name", "op", "shape", "time_ms", "share", "cumulative", "precision", "device", "gops_per_s", "gb_per_s",
    "limit_ms", "share_of_limit", "bound", "loss", "macs", "operations", "moved_bytes", "kernel", "nodes",
)  # fmt: skip


def by_time(layers: Sequence[ProfiledLayer]) -> list[ProfiledLayer]:
    """Those that take longest first."""
    return sorted(layers, key=lambda layer: -layer.time_ms)


def as_csv(profile: ModelProfile) -> bytes:
    """In graph order, and the time between the layers as the last row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for layer in profile.layers:
        writer.writerow([_cell(getattr(layer, column)) for column in COLUMNS])
    between = dict.fromkeys(COLUMNS, "") | {
        "place": str(len(profile.layers)), "name": "between the layers", "time_ms": _cell(profile.between_ms),
        "share": _cell(profile.between_ms / profile.time_ms),
    }  # fmt: skip
    writer.writerow([between[column] for column in COLUMNS])
    return text.getvalue().encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "; ".join(map(str, value)) if isinstance(value, tuple) else str(value)
