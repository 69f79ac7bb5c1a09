"""The files of a profile: for people, for programs, for spreadsheets, for Perfetto."""

from pathlib import Path

import msgspec

from edgeward.kit import codec
from edgeward.measure.profiling.chrome_trace import trace_of
from edgeward.measure.profiling.page import to_html
from edgeward.measure.profiling.pictures import alone
from edgeward.measure.profiling.roofline import roofline
from edgeward.measure.profiling.table import as_csv
from edgeward.records.profile import ModelProfile

_WIDTH = 880.0


def write(found: ModelProfile, folder: Path, flame: str) -> None:
    """Into a folder that appears only when all is written."""
    (folder / "profile.json").write_bytes(codec.to_pretty_json(found))
    (folder / "layers.csv").write_bytes(as_csv(found))
    (folder / "trace.json").write_bytes(msgspec.json.encode(trace_of(found)))
    (folder / "report.html").write_text(to_html(found, flame), encoding="utf-8")
    drawn = roofline(found, _WIDTH)
    if drawn:
        (folder / "roofline.svg").write_text(alone(drawn), encoding="utf-8")
    if flame:
        (folder / "flame.svg").write_text(alone(flame), encoding="utf-8")
