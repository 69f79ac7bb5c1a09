"""ONNX to ExecuTorch (`.pte`), by torch.export; XNNPACK takes what it has, the rest runs in ExecuTorch's own kernels.

Quantise/dequantise pairs become torch's, which XNNPACK computes in int8 (uint8 ones are shifted by 128). Batches have
one sample.
"""

import onnx

from edgeward.optimize.exporters.base import Exported, Exporter
from edgeward.optimize.exporters.executorch.lowering import lowered


class ToExecuTorch:
    suffix = ".pte"

    def export(self, model: onnx.ModelProto) -> Exported:
        data, placement = lowered(model)
        return Exported(data, (placement,))


plugin: Exporter = ToExecuTorch()
