"""What one sensor said."""

from edgeward.records.base import Record


class Reading(Record):
    """One sensor at one moment. `value` is in `unit`, or a word where `unit` is empty; where it is None, `fault` says
    why it is not readable. `probe` is the member that read it, `path` the file or command it comes from.
    """

    name: str
    quantity: str
    unit: str
    value: float | str | None
    path: str
    fault: str | None = None
    probe: str = ""
