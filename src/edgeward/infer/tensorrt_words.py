"""What TensorRT's messages mean to a person. Knows no TensorRT."""

import re
from collections.abc import Sequence

from edgeward.kit.errors import Unsupported, WrongInput

_ELSEWHERE = (
    "not compatible with this version", "different version of tensorrt", "version mismatch",
    "version tag does not match", "incompatible device", "different device", "compute capability",
    "expecting compute",
)  # fmt: skip


def engine_fault(messages: Sequence[str], here: str) -> Unsupported | WrongInput:
    """Why an engine file does not load `here`, which names the version and the GPU."""
    text = " ".join(" ".join(messages).split())
    if any(mark in text.lower() for mark in _ELSEWHERE):
        return Unsupported(
            f"this engine was built elsewhere, and does not run on {here}: {_plain(text)}",
            hint="give the ONNX model: its engine is built here, once, and kept",
        )
    return WrongInput(f"this is no engine that {here} can read: {_plain(text) or 'it gives no reason'}")


def parser_fault(messages: Sequence[str], version: str) -> Unsupported | WrongInput:
    """Why an ONNX model could not be read."""
    text = " ".join(" ".join(messages).split())
    missing = re.search(r"[Nn]o importer registered for op: (\w+)", text)
    if missing:
        return Unsupported(f"TensorRT {version} has no operator {missing.group(1)}, which this model uses")
    if re.search(r"zero.?point", text, re.IGNORECASE):
        return Unsupported(
            f"TensorRT {version} takes quantise nodes with zero points of 0 alone: {_plain(text)}",
            hint="quantise with symmetric int8 activations",
        )
    if not text or re.search(r"[Ff]ailed to parse|ModelProto|protobuf", text):
        return WrongInput(f"this is no valid ONNX model: {_plain(text) or 'TensorRT cannot read it'}")
    return Unsupported(f"TensorRT {version} cannot run this model: {_plain(text)}")


def _plain(text: str) -> str:
    """Without source files and lines."""
    return re.sub(r"\[?\S+\.(?:cpp|h)(?:::?\S+)?\]?\s*", "", text)[:300]
