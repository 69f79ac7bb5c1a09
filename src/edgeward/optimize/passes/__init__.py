"""The passes, one file each; the file's name is the name people type in a recipe."""

from typing import cast

from edgeward.kit import plugins
from edgeward.optimize.passes.base import Context, DoesNotApply, Pass, Passed, Writer

__all__ = ["Context", "DoesNotApply", "Pass", "Passed", "Writer", "load", "names"]


def names() -> tuple[str, ...]:
    """Every pass there is."""
    return plugins.names(__name__)


def load(name: str) -> Pass:
    """The pass `name`. Raises Unsupported, with the extra to install, when its package is missing."""
    return cast(Pass, plugins.load(__name__, name, extra="optimize"))
