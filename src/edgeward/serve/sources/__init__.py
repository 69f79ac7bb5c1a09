"""The sources, one file each; the file's name is the name people type."""

from typing import cast

from edgeward.kit import plugins
from edgeward.serve.sources.base import Arrival, Pace, Source, Stream, Wanted

__all__ = ["Arrival", "Pace", "Source", "Stream", "Wanted", "load", "names"]

_EXTRAS = {
    "video": "video", "rtsp": "video", "camera": "video", "microphone": "video",
    "serial": "serial", "mqtt": "mqtt", "edgex": "mqtt", "http": "http",
}  # fmt: skip


def names() -> tuple[str, ...]:
    """Every source we know how to read, its packages installed or not."""
    return plugins.names(__name__)


def load(name: str) -> Source:
    """The source `name`. Raises Unsupported, with the extra to install, when its package is missing."""
    return cast(Source, plugins.load(__name__, name, extra=_EXTRAS.get(name)))
