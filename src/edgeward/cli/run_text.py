"""What a person sees of answers: a table of those to files, a line for each of a live source."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgeward.cli import console
from edgeward.cli.answers import in_words

if TYPE_CHECKING:
    from edgeward.infer import Answer
    from edgeward.records.bundle import Manifest
    from edgeward.serve import Counts


class Row(NamedTuple):
    """What a person sees of one answer: source, answer, score, and its times."""

    source: str
    told: str
    score: str
    pre_ms: float
    infer_ms: float
    post_ms: float

    @property
    def total_ms(self) -> float:
        return self.pre_ms + self.infer_ms + self.post_ms


def row_of(name: str, answer: "Answer") -> Row:
    return Row(name, *in_words(answer), answer.pre_ms, answer.infer_ms, answer.post_ms)


def short(name: str, source: str) -> str:
    """The name inside `source`; the end of it where it is long, so that the numbers keep their place."""
    place = Path(source)
    inside = name.removeprefix(f"{place}/" if place.is_dir() else f"{place.parent}/")
    return inside if len(inside) <= 32 else f"…{inside[-31:]}"


def show(manifest: "Manifest", source: str, rows: list[Row]) -> None:
    import numpy as np

    shown = [
        (
            short(row.source, source),
            row.told,
            row.score,
            *(f"{ms:.3f}" for ms in (row.pre_ms, row.infer_ms, row.post_ms)),
        )
        for row in rows
    ]
    columns = ("source", "answer", "score", "pre ms", "infer ms", "post ms")
    console.table(f"{manifest.name} {manifest.version}", columns, shown, right=(2, 3, 4, 5))
    p50, p95 = np.quantile([row.total_ms for row in rows], (0.5, 0.95))
    console.say(f"n {len(rows)}, total p50 {console.milliseconds(p50)}, p95 {console.milliseconds(p95)}")


def line_of(row: Row, age_ms: float | None) -> str:
    """One answer of a live source, as it comes."""
    age = "" if age_ms is None else f"  age {console.milliseconds(age_ms)}"
    score = f"  {row.score}" if row.score else ""
    return f"{row.source}  {row.told}{score}  {console.milliseconds(row.total_ms)}{age}"


def sum_of(counts: "Counts") -> str:
    """What became of all samples, in one line."""
    said = {
        "captured": counts.captured, "answered": counts.answered, "dropped from the queue": counts.dropped,
        "unchanged": counts.unchanged, "too old": counts.too_old, "bad": counts.bad, "source reopened": counts.reopened,
        **{f"not taken by {name}": count for name, count in counts.sinks.items()},
    }  # fmt: skip
    return ", ".join(f"{name} {count}" for name, count in said.items() if count or name in ("captured", "answered"))
