"""LiteRT (.tflite) → ONNX, by our own rules: no TensorFlow is needed, and nothing is fetched."""

from edgeward.optimize.from_litert.convert import convert
from edgeward.optimize.from_litert.file import LiteRtFile, Tensor, decode

__all__ = ["LiteRtFile", "Tensor", "convert", "decode"]
