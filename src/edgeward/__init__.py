"""Edgeward: carries a trained model to Linux devices at the edge, and guards it there."""

import os

__version__ = "0.1.0"

# ONNX Runtime's official Linux wheels report home from their first import on. This stands here, and not
# where we import it, so that no order of imports inside edgeward can forget it (docs/decisions/0003).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
