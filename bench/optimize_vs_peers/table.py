"""Rows → Markdown, and what the optimiser promises checked on them. Rules only."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from edgeward.measure.bench import verdict_of

EDGEWARD = "edgeward"


class Row(Struct, frozen=True):
    """One model of a case. The ratios are its p50 over Edgeward's, with their 95 % interval, of interleaved runs."""

    name: str
    peer: str
    precision: str = ""
    runtime: str = ""
    score: float | None = None
    drop: float | None = None
    drop_ci: tuple[float, float] | None = None
    size_bytes: int | None = None
    p50_us: float | None = None
    ratio: float | None = None
    ratio_ci: tuple[float, float] | None = None
    frame_us: float | None = None
    frame_ratio: float | None = None
    frame_ci: tuple[float, float] | None = None
    took_s: float | None = None
    failure: str | None = None


class CaseResult(Struct, frozen=True):
    """All rows of a case, Edgeward's first, the float model as given second. Without Edgeward's there is no race.

    `accuracy_behind_best` is the best peer's score minus Edgeward's, on the same samples.
    """

    case: str
    kind: str
    metric: str
    max_drop: float
    samples: int
    runs: int
    rows: list[Row]
    efforts: dict[str, float]
    accuracy_behind_best: float | None = None
    accuracy_behind_best_ci: tuple[float, float] = (0.0, 0.0)
    setting: str = ""
    max_size_share: float | None = None
    max_seconds: float | None = None


class Check(NamedTuple):
    """A promise, whether it was kept, and the figures."""

    promise: str
    kept: bool
    figures: str


def checks(result: CaseResult) -> list[Check]:
    """What issue and documentation promise of a case. A speed inside the noise (2 %) counts as equal."""
    ours, given, *peers = result.rows
    if ours.failure is not None:
        return [Check("Edgeward finds something", False, ours.failure)]
    gated = [row for row in peers if row.failure is None and row.drop is not None and row.drop <= result.max_drop]
    timed = [row for row in gated if row.ratio is not None]
    found = _accuracy(result)
    if timed:
        fastest = min(timed, key=lambda row: row.ratio or 0)
        low, high = fastest.ratio_ci or (0, 0)
        found.append(
            Check(
                "as fast as the fastest peer that keeps the gate",
                verdict_of(low, high) != "slower",
                f"{fastest.name} takes {fastest.ratio:.2f}x of its time [{low:.2f}, {high:.2f}]",
            )
        )
    framed = [row for row in gated if row.frame_ratio is not None]
    if framed:
        fastest = min(framed, key=lambda row: row.frame_ratio or 0)
        share, (low, high) = 1 / (fastest.frame_ratio or 1), fastest.frame_ci or (1, 1)
        figures = f"{share:.3f} [{1 / high:.3f}, {1 / low:.3f}] of {fastest.name}"
        found.append(Check("from the raw frame at most 0.90 of the fastest peer", share <= 0.90, figures))
    low, high = given.ratio_ci or (1, 1)
    slower = verdict_of(low, high) == "slower"
    found.append(Check("never slower than float ONNX Runtime", not slower, f"{given.ratio or 1:.2f}x as fast"))
    spent = sum(took for name, took in result.efforts.items() if name != EDGEWARD)
    mine = result.efforts.get(EDGEWARD, 0.0)
    found.append(Check("in no more time than the peers together", mine <= spent, f"{mine:.0f} s, they {spent:.0f} s"))
    if result.max_seconds is not None:
        found.append(Check(f"in {result.max_seconds:.0f} s", mine <= result.max_seconds, f"{mine:.0f} s"))
    return [*found, *_size(result)]


def _accuracy(result: CaseResult) -> list[Check]:
    behind, (low, high) = result.accuracy_behind_best or 0.0, result.accuracy_behind_best_ci
    drop = result.rows[0].drop or 0.0
    return [
        Check(
            "as accurate as the best peer, within the gate",
            low <= 0 or behind <= result.max_drop,
            f"{behind:+.4f} behind the best [{low:+.4f}, {high:+.4f}]",
        ),
        Check("as accurate as the float model, within the gate", drop <= result.max_drop, f"{drop:+.4f} behind it"),
    ]


def _size(result: CaseResult) -> list[Check]:
    ours, given, *peers = result.rows
    if not ours.size_bytes or not ours.precision.startswith("int8"):
        return []
    found, share = list[Check](), ours.size_bytes / (given.size_bytes or 1)
    alike = [row for row in peers if row.precision.startswith("int8") and row.size_bytes]
    if alike:
        smallest = min(alike, key=lambda row: row.size_bytes or 0)
        figures = f"{ours.size_bytes:,} B ({share:.2f} of float), {smallest.name} {smallest.size_bytes:,} B"
        kept = ours.size_bytes <= (smallest.size_bytes or 0)
        found.append(Check("no larger than the smallest int8 peer", kept, figures))
    if result.max_size_share is not None:
        promise = f"at most {result.max_size_share:.2f} of the float file"
        found.append(Check(promise, share <= result.max_size_share, f"{share:.3f} of it"))
    return found


def summary(results: Sequence[CaseResult]) -> str:
    """Each promise by case, as a Markdown table: yes, no, or nothing where the case does not ask it."""
    kept = [{check.promise: "yes" if check.kept else "**no**" for check in checks(result)} for result in results]
    promises = dict.fromkeys(promise for found in kept for promise in found)
    lines = [_line(["", *[result.case for result in results]]), _line(["---"] * (len(results) + 1))]
    lines += [_line([promise, *[found.get(promise, "") for found in kept]]) for promise in promises]
    return "\n".join(lines) + "\n"


def to_markdown(result: CaseResult) -> str:
    """A heading, the table, and the promises."""
    if not result.runs:
        timing = "not timed, since there is nothing of Edgeward's to compare with"
    else:
        timing = f"{result.runs:,} timed runs of each model, in turn"
    has_frames = any(row.frame_us is not None for row in result.rows)
    head = ["", result.metric, "drop [95 %]", "bytes", "p50 µs", "time, Edgeward's = 1 [95 %]"]
    head += ["from the raw frame, Edgeward's = 1"] if has_frames else []
    head += ["took"]
    lines = [
        f"### {result.case}",
        "",
        f"{result.samples:,} evaluation samples; {timing}. {result.setting}".strip(),
        "",
        _line(head),
        _line(["---"] * len(head)),
    ]
    lines += [_line(_cells(row, has_frames)) for row in result.rows]
    lines += [""]
    lines += [
        f"- {'kept' if check.kept else '**not kept**'}: {check.promise}: {check.figures}" for check in checks(result)
    ]
    return "\n".join(lines) + "\n"


def _cells(row: Row, has_frames: bool) -> Sequence[str]:
    took = "" if row.took_s is None else f"{row.took_s:.0f} s"
    if row.failure is not None:
        return [row.name, f"does not run: {row.failure}"[:160].replace("|", "/"), *[""] * (4 + has_frames), took]
    low, high = row.drop_ci or (0.0, 0.0)
    cells = [
        f"**{row.name}**" if row.peer == EDGEWARD else row.name,
        f"{row.score:.4f}",
        "" if row.drop is None else f"{row.drop:+.4f} [{low:+.4f}, {high:+.4f}]",
        f"{row.size_bytes:,}",
        "" if row.p50_us is None else f"{row.p50_us:.1f}",
        _ratio(row.ratio, row.ratio_ci),
    ]
    return [*cells, *([_ratio(row.frame_ratio, row.frame_ci)] if has_frames else []), took]


def _ratio(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return ""
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
