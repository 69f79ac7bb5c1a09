"""What a sink promises: it takes results, one after another."""

from typing import Any, Protocol

from edgeward.serve.results import Outlet, Result

__all__ = ["Outlet", "Result", "Sink"]


class Sink(Protocol):
    """A kind of sink. `options` is a Document; its first field is what `--sink` alone says."""

    @property
    def options(self) -> type[Any]: ...

    def open(self, options: Any, pipeline: str) -> Outlet:
        """`pipeline` is the name that others see. Raises WrongInput or Unsupported where it can never work; one that
        is merely not reachable now opens, and takes what it can."""
        ...
