"""What a reader promises: a model file of one format as ONNX, and the original to compare it with."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import onnx
from numpy.typing import NDArray

Original = Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]
"""The file's own answers, in its own runtime, to one sample with a batch axis of 1, by the ONNX model's input names and
in its dtypes; one value for each output of the ONNX model."""


class Read(NamedTuple):
    """The model as ONNX, notes for the report, and the original where the file was no ONNX; `is_quantized` where that
    one computes in integers, whose rounding differs from kernel to kernel."""

    model: onnx.ModelProto
    notes: tuple[str, ...] = ()
    original: Original | None = None
    is_quantized: bool = False


class Reader(Protocol):
    """Reads files that end in one of `suffixes`."""

    @property
    def suffixes(self) -> tuple[str, ...]: ...

    def read(self, path: Path) -> Read:
        """Raises WrongInput for what is no such model, Unsupported for what ONNX cannot say."""
        ...
