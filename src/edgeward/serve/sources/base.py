"""What a source promises: samples, one after another, and what each of them is called."""

from collections.abc import Iterator
from typing import Any, Literal, Protocol

from edgeward.serve.arrival import Arrival, Wanted

__all__ = ["Arrival", "Pace", "Source", "Stream", "Wanted"]

Pace = Literal["on demand", "newest", "each"]
"""How samples come: when somebody asks for them, as from files; or by themselves, where the newest one is worth most
(a camera) or each of them matters (a message, a reading)."""


class Stream(Protocol):
    """An open source."""

    def __iter__(self) -> Iterator[Arrival]:
        """Waits for each. Ends where the source ends; raises Unavailable where it went away and may come back."""
        ...

    def close(self) -> None:
        """Gives up the device or connection. Called from another thread, it also ends the iteration soon."""
        ...


class Source(Protocol):
    """A kind of source. `options` is a Document; its first field is what `-i` alone says."""

    @property
    def options(self) -> type[Any]: ...

    def pace(self, options: Any) -> Pace: ...

    def open(self, options: Any, wanted: Wanted) -> Stream:
        """Raises WrongInput where it can never give such samples, Unavailable where it is not there now."""
        ...
