"""The platforms that a bundle comes out for, one file each; the file's name is the name people type."""

from typing import cast

from edgeward.bundle.packers.base import Duty, Machine, PackedFile, Packer, Service, Whole
from edgeward.kit import plugins

__all__ = ["Duty", "Machine", "PackedFile", "Packer", "Service", "Whole", "load", "names"]


def names() -> tuple[str, ...]:
    """Every platform we know how to pack for."""
    return plugins.names(__name__)


def load(name: str) -> Packer:
    """The packer `name`. Raises WrongInput for one that we do not have."""
    return cast(Packer, plugins.load(__name__, name))
