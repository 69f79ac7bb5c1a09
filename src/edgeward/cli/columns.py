"""Tables of a fixed width, as lines: what does not fit is shortened, then left out, the least important first."""

from collections.abc import Sequence
from typing import NamedTuple

GAP = 2


class Column(NamedTuple):
    """`least`: it may be shortened to so many characters. `spare`: it may be left out; the highest goes first."""

    title: str
    right: bool = False
    least: int | None = None
    spare: int = 0


def lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The titles and then the rows, each of at most `width` characters. A column without any value is absent."""
    kept = [at for at in range(len(columns)) if columns[at].spare == 0 or any(row[at] not in ("", "–") for row in rows)]
    while (excess := _total(columns, rows, kept) - width) > 0:
        if _slack(columns, rows, kept) >= excess or not any(columns[at].spare for at in kept):
            break
        kept.remove(max(kept, key=lambda at: columns[at].spare))
    widths = _shortened(columns, rows, kept, max(0, excess))
    told = [[column.title for column in columns], *rows]
    return [_line([row[at] for at in kept], [columns[at] for at in kept], widths)[:width].rstrip() for row in told]


def _natural(columns: Sequence[Column], rows: Sequence[Sequence[str]], at: int) -> int:
    return max(len(columns[at].title), *(len(row[at]) for row in rows)) if rows else len(columns[at].title)


def _total(columns: Sequence[Column], rows: Sequence[Sequence[str]], kept: Sequence[int]) -> int:
    return sum(_natural(columns, rows, at) for at in kept) + GAP * (len(kept) - 1)


def _room(columns: Sequence[Column], rows: Sequence[Sequence[str]], at: int) -> int:
    least = columns[at].least
    return 0 if least is None else max(0, _natural(columns, rows, at) - least)


def _slack(columns: Sequence[Column], rows: Sequence[Sequence[str]], kept: Sequence[int]) -> int:
    return sum(_room(columns, rows, at) for at in kept)


def _shortened(columns: Sequence[Column], rows: Sequence[Sequence[str]], kept: Sequence[int], excess: int) -> list[int]:
    """Each column's width when `excess` characters are taken from those that can give."""
    widths = []
    for at in reversed(kept):
        given = min(excess, _room(columns, rows, at))
        excess -= given
        widths.append(_natural(columns, rows, at) - given)
    return widths[::-1]


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    fitted = [
        cell if len(cell) <= width else cell[: width - 1] + "…" for cell, width in zip(cells, widths, strict=True)
    ]
    padded = [
        cell.rjust(width) if column.right else cell.ljust(width)
        for cell, column, width in zip(fitted, columns, widths, strict=True)
    ]
    return (" " * GAP).join(padded)
