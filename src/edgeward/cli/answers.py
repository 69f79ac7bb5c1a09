"""An answer in the few words that fit a row of a table."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeward.infer.answer import Answer, Box, KeyPoint

_SHOWN = 3


def in_words(answer: "Answer") -> tuple[str, str]:
    """What the model says, and how sure it is of it; the second is empty where it gives no score."""
    if answer.zones or answer.lines:
        return _counts(answer), ""
    if answer.boxes is not None:
        return _boxes(answer.boxes)
    if answer.anomaly is not None:
        return "anomaly" if answer.anomaly.is_anomaly else "normal", f"{answer.anomaly.score:.4g}"
    if answer.keypoints is not None:
        return _points(answer.keypoints)
    if answer.segments is not None:
        return ", ".join(f"{one.label} {one.share:.1%}" for one in answer.segments) or "nothing found", ""
    if answer.classes:
        return ", ".join(one.label for one in answer.classes), ", ".join(f"{one.score:.3f}" for one in answer.classes)
    return _outputs(answer), ""


def _boxes(boxes: "tuple[Box, ...]") -> tuple[str, str]:
    """The first few with their corners in pixels, and their scores."""
    shown = boxes[:_SHOWN]
    told = [f"{_named(box)} {box.x1:.0f},{box.y1:.0f}–{box.x2:.0f},{box.y2:.0f}" for box in shown]
    if more := len(boxes) - len(shown):
        told.append(f"{more} more")
    return ", ".join(told) or "nothing found", ", ".join(f"{box.score:.3f}" for box in shown)


def _points(points: "tuple[KeyPoint, ...]") -> tuple[str, str]:
    shown = points[:_SHOWN]
    told = [f"{point.label} {point.x:.0f},{point.y:.0f}" for point in shown]
    if more := len(points) - len(shown):
        told.append(f"{more} more")
    return ", ".join(told) or "nothing found", ", ".join(f"{point.score:.3f}" for point in shown)


def _named(box: "Box") -> str:
    return box.label if box.track is None else f"{box.label} #{box.track}"


def _counts(answer: "Answer") -> str:
    """Who is in each zone, and how often each line was crossed."""
    zones = [f"{zone.name} {zone.inside}" for zone in answer.zones or ()]
    return ", ".join([*zones, *(f"{line.name} {line.forward}→ {line.backward}←" for line in answer.lines or ())])


def _outputs(answer: "Answer") -> str:
    """The outputs, the first few numbers of each."""
    return "  ".join(f"{name} {_numbers(value.reshape(-1))}" for name, value in answer.outputs.items())


def _numbers(flat: Any) -> str:
    head = ", ".join(f"{one:.4g}" if isinstance(one, float) else str(one) for one in flat[:4].tolist())
    return f"[{head}, … {flat.size}]" if flat.size > 4 else f"[{head}]"
