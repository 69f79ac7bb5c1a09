"""The runtimes, one file each; the file's name is the name people type."""

from typing import cast

from edgeward.infer.runtimes.base import Account, Accountant, Kernel, NodeTime, Profile, Runtime, Session
from edgeward.kit import plugins

__all__ = ["Account", "Accountant", "Kernel", "NodeTime", "Profile", "Runtime", "Session", "load", "names"]

_EXTRAS = {"onnxruntime-qnn": "qnn", "onnxruntime-webgpu": "webgpu"}
"""Of the runtimes that are not named like the extra that brings them."""


def names() -> tuple[str, ...]:
    """Every runtime we know how to drive, installed or not."""
    return plugins.names(__name__)


def load(name: str) -> Runtime:
    """The runtime `name`. Raises Unsupported, with the extra to install, when its package is missing."""
    return cast(Runtime, plugins.load(__name__, name, extra=_EXTRAS.get(name, name.partition("-")[0])))
