"""ONNX as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.optimize.inspect import read_model
from edgeward.optimize.readers.base import Read, Reader

if TYPE_CHECKING:
    from pathlib import Path


class FromOnnx:
    suffixes = (".onnx",)

    def read(self, path: Path) -> Read:
        return Read(read_model(path))


plugin: Reader = FromOnnx()
