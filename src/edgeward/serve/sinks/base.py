"""What a sink promises: it takes results, one after another."""

from typing import Any, Protocol

from edgeward.serve.results import Result

__all__ = ["Outlet", "Result", "Sink"]


class Outlet(Protocol):
    """An open sink. One thread uses it."""

    def write(self, result: Result) -> None:
        """Takes one result. Raises an EdgewardError or OSError where it could not: it is told and counted, and the
        next result is offered all the same."""
        ...

    def close(self) -> None:
        """Finishes what it has taken. Nothing is written afterwards."""
        ...


class Sink(Protocol):
    """A kind of sink. `options` is a Document; its first field is what `--sink` alone says."""

    @property
    def options(self) -> type[Any]: ...

    def open(self, options: Any, pipeline: str) -> Outlet:
        """`pipeline` is the name that others see. Raises WrongInput or Unsupported where it can never work; one that
        is merely not reachable now opens, and takes what it can."""
        ...
