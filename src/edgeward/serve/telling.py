"""Sentences about a stream, for a person: each at once, but never a flood of them."""

from collections.abc import Callable

from edgeward.kit.clock import Clock

_MOST = 5
_WITHIN_S = 10.0


class Sparing:
    """Passes on at most five sentences in ten seconds; how many were withheld is told with the next one."""

    def __init__(self, tell: Callable[[str], None], clock: Clock) -> None:
        self._tell = tell
        self._clock = clock
        self._began_s = -_WITHIN_S
        self._told = 0
        self.withheld = 0

    def __call__(self, sentence: str) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._began_s >= _WITHIN_S:
            self.finish()
            self._began_s, self._told = now_s, 0
        if self._told < _MOST:
            self._told += 1
            self._tell(sentence)
        else:
            self.withheld += 1

    def finish(self) -> None:
        """Tells how many were withheld, where there were any."""
        if self.withheld:
            self._tell(f"{self.withheld} more such sentences were left out")
            self.withheld = 0
