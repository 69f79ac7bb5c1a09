"""When a comparison fails: `p99>+5%@95%`, several with commas between them. Rules only."""

import re
from typing import NamedTuple

from edgeward.kit.errors import WrongInput

METRICS = ("p50", "p90", "p95", "p99", "throughput", "memory", "energy", "load")
_DEFAULT_CONFIDENCE = 0.95
_EXAMPLE = "p99>+5%@95%"


class Condition(NamedTuple):
    """Fails when `metric` changed by more than `change` (0.05 is 5 %; beyond it in the direction of its sign) with at
    least this confidence, of one side."""

    metric: str
    change: float
    confidence: float
    text: str

    def is_rise(self) -> bool:
        """Whether a rise fails, or a fall."""
        return ">" in self.text


def conditions_of(text: str) -> tuple[Condition, ...]:
    """The conditions in `text`. Raises WrongInput that names the place where it is not understood."""
    found, place = [], 0
    for part in text.split(","):
        begin = place + len(part) - len(part.lstrip())
        found.append(_condition(text, part.strip(), begin))
        place += len(part) + 1
    return tuple(found)


def _condition(text: str, part: str, begin: int) -> Condition:
    reading = _Reading(text, part, begin)
    metric = reading.take(r"[a-z0-9_]+", "a metric: " + ", ".join(METRICS))
    if metric not in METRICS:
        raise _misread(text, begin, f"{metric!r} is no metric", ", ".join(METRICS))
    direction = reading.take(r"[<>]", "> (fails on a rise) or < (fails on a fall)")
    sign = reading.take(r"[+-]?", "a sign")
    at = reading.place
    percent = float(reading.take(r"\d+(?:\.\d+)?(?=\s*%)", "a percentage such as +5%"))
    reading.take(r"%", "%")
    if (direction == ">" and sign == "-") or (direction == "<" and sign == "+"):
        wanted = "+" if direction == ">" else "-"
        raise _misread(text, at - 1, f"{direction} goes with {wanted}", f"{metric}{direction}{wanted}{percent:g}%")
    if direction == "<" and percent >= 100:
        raise _misread(text, at, "nothing falls by 100 % or more", "less than 100%")
    confidence = _confidence(reading)
    reading.end()
    change = percent / 100 if direction == ">" else -percent / 100
    return Condition(metric, change, confidence, "".join(part.split()))


def _confidence(reading: "_Reading") -> float:
    if not reading.has("@"):
        return _DEFAULT_CONFIDENCE
    reading.take("@", "@")
    at = reading.place
    percent = float(reading.take(r"\d+(?:\.\d+)?(?=\s*%)", "a confidence such as @95%"))
    reading.take(r"%", "%")
    if not 50 <= percent < 100:
        raise _misread(reading.text, at, f"a confidence of {percent:g}%", "50% to 99.99%")
    return percent / 100


class _Reading:
    """One condition, read from left to right; `place` counts from the start of the whole text."""

    def __init__(self, text: str, part: str, begin: int) -> None:
        self.text, self._part, self._begin, self._at = text, part, begin, 0

    @property
    def place(self) -> int:
        return self._begin + self._at

    def has(self, mark: str) -> bool:
        self._skip()
        return self._part.startswith(mark, self._at)

    def take(self, pattern: str, wanted: str) -> str:
        self._skip()
        found = re.compile(pattern).match(self._part, self._at)
        if found is None:
            rest = self._part[self._at :]
            raise _misread(self.text, self.place, repr(rest) if rest else "nothing more", wanted)
        self._at = found.end()
        return found.group()

    def end(self) -> None:
        self._skip()
        if self._at < len(self._part):
            raise _misread(self.text, self.place, repr(self._part[self._at :]), "a comma, or the end")

    def _skip(self) -> None:
        while self._part[self._at : self._at + 1].isspace():
            self._at += 1


def _misread(text: str, place: int, got: str, wanted: str) -> WrongInput:
    return WrongInput(
        f"--fail-if {text!r}, character {place + 1}: {got}; wanted {wanted}", hint=f"--fail-if '{_EXAMPLE}'"
    )
