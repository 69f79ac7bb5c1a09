"""ONNX to LiteRT (`.tflite`), offline and without TensorFlow.

Channels go last without a transposition wherever the graph allows; quantise/dequantise pairs become int8 tensors
(uint8 ones are shifted by 128), with int32 biases and a scale for each output channel of the weights; padding,
activations and biases are fused. Batches have one sample.
"""

import onnx

from edgeward.optimize.exporters.base import Exported, Exporter
from edgeward.optimize.exporters.litert import (
    arranging,
    curves,
    graph,
    logic,
    norms,
    pointwise,
    products,
    transposed,
    weighted,
    windows,
)
from edgeward.optimize.exporters.litert.conversion import Conversion

_HANDLERS = {
    **arranging.HANDLERS,
    **curves.HANDLERS,
    **logic.HANDLERS,
    **norms.HANDLERS,
    **pointwise.HANDLERS,
    **products.HANDLERS,
    **transposed.HANDLERS,
    **weighted.HANDLERS,
    **windows.HANDLERS,
}


class ToLiteRt:
    suffix = ".tflite"

    def export(self, model: onnx.ModelProto) -> Exported:
        return Exported(Conversion(graph.read(model), _HANDLERS).to_bytes())


plugin: Exporter = ToLiteRt()
