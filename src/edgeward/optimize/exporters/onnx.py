"""ONNX stays ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.optimize.exporters.base import Exported, Exporter

if TYPE_CHECKING:
    import onnx


class ToOnnx:
    suffix = ".onnx"

    def export(self, model: onnx.ModelProto) -> Exported:
        return Exported(model.SerializeToString())


plugin: Exporter = ToOnnx()
