"""How long to wait before the next try: longer each time, and never all at the same moment."""

from collections.abc import Callable, Iterator


def delays(random: Callable[[], float], *, first_s: float = 0.5, longest_s: float = 30.0) -> Iterator[float]:
    """Seconds to wait, one after another, without end: doubled each time up to `longest_s`, of which `random` (0..1)
    leaves between half and all, so that a thousand devices do not come back at once."""
    wait_s = first_s
    while True:
        yield wait_s * (0.5 + 0.5 * random())
        wait_s = min(longest_s, 2 * wait_s)
