"""From the passes' ONNX graph to the bytes a runtime loads, one member for each format."""

from typing import cast

from edgeward.kit import plugins
from edgeward.optimize.exporters.base import Compiler, Exported, Exporter

__all__ = ["Compiler", "Exported", "Exporter", "load", "names"]


def names() -> tuple[str, ...]:
    """The formats that models can be written in."""
    return plugins.names(__name__)


def load(format_name: str) -> Exporter:
    """The exporter to `format_name`. Raises Unsupported, with the extra to install, when its package is missing."""
    return cast(Exporter, plugins.load(__name__, format_name, extra=format_name))
