"""What a person sees of answers: a table of those to files, a line for each of a live source."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgeward.cli import console

if TYPE_CHECKING:
    from edgeward.infer import Answer
    from edgeward.infer.postprocess import Box
    from edgeward.records.bundle import Manifest
    from edgeward.serve import Counts

_BOXES_SHOWN = 3


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
    classes = answer.classes
    if answer.boxes is not None:
        told, score = _brief_boxes(answer.boxes)
    else:
        told = ", ".join(one.label for one in classes) or _brief(answer)
        score = ", ".join(f"{one.score:.3f}" for one in classes)
    return Row(name, told, score, answer.pre_ms, answer.infer_ms, answer.post_ms)


def _brief_boxes(boxes: "tuple[Box, ...]") -> tuple[str, str]:
    """The first few with their corners in pixels, and their scores."""
    shown = boxes[:_BOXES_SHOWN]
    told = [f"{box.label} {box.x1:.0f},{box.y1:.0f}–{box.x2:.0f},{box.y2:.0f}" for box in shown]
    if more := len(boxes) - len(shown):
        told.append(f"{more} more")
    return ", ".join(told) or "nothing found", ", ".join(f"{box.score:.3f}" for box in shown)


def _brief(answer: "Answer") -> str:
    """The outputs, the first few numbers of each."""
    return "  ".join(f"{name} {_numbers(value.reshape(-1))}" for name, value in answer.outputs.items())


def _numbers(flat: Any) -> str:
    head = ", ".join(f"{one:.4g}" if isinstance(one, float) else str(one) for one in flat[:4].tolist())
    return f"[{head}, … {flat.size}]" if flat.size > 4 else f"[{head}]"


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
        "unchanged": counts.unchanged, "bad": counts.bad, "source reopened": counts.reopened,
        **{f"not taken by {name}": count for name, count in counts.sinks.items()},
    }  # fmt: skip
    return ", ".join(f"{name} {count}" for name, count in said.items() if count or name in ("captured", "answered"))
