"""Edgeward: carries a trained model to Linux devices at the edge, and guards it there."""

import os
import sys

__version__ = "0.1.0"

# ONNX Runtime's official Linux wheels report home from their first import on, OpenVINO's at each import, through
# a package that it does without. This stands here, and not where we import them, so that no order of imports
# inside edgeward can forget it (docs/decisions/0003).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes its import fail
