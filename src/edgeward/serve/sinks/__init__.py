"""The sinks, one file each; the file's name is the name people type."""

from typing import cast

from edgeward.kit import plugins
from edgeward.serve.sinks.base import Outlet, Result, Sink

__all__ = ["Outlet", "Result", "Sink", "load", "names"]

_EXTRAS = {"mqtt": "mqtt", "edgex": "mqtt", "webhook": "http", "video": "video"}


def names() -> tuple[str, ...]:
    """Every sink we know how to write to, its packages installed or not."""
    return plugins.names(__name__)


def load(name: str) -> Sink:
    """The sink `name`. Raises Unsupported, with the extra to install, when its package is missing."""
    return cast(Sink, plugins.load(__name__, name, extra=_EXTRAS.get(name)))
