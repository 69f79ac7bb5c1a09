"""Model files of other frameworks, brought to ONNX, one member each; what has no reader of its own is read as ONNX."""

from pathlib import Path
from typing import cast

import onnx

from edgeward.kit import plugins
from edgeward.kit.errors import EdgewardError
from edgeward.optimize.readers.base import Original, Read, Reader

__all__ = ["Original", "Read", "Reader", "load", "names", "read", "read_model"]

_BY_SUFFIX = {".tflite": "litert", ".pt2": "pytorch", ".h5": "keras", ".hdf5": "keras", ".keras": "keras"}


def names() -> tuple[str, ...]:
    """The formats that are read."""
    return plugins.names(__name__)


def load(format_name: str) -> Reader:
    """The reader of `format_name`. Raises Unsupported, with the extra to install, when its package is missing."""
    extra = {"pytorch": "train"}.get(format_name, format_name)
    return cast(Reader, plugins.load(__name__, format_name, extra=extra))


def read(path: Path) -> Read:
    """The model in `path`. Raises WrongInput or Unsupported, with the path, for what cannot be read."""
    try:
        return load(_BY_SUFFIX.get(path.suffix.lower(), "onnx")).read(path)
    except EdgewardError as error:
        if str(path) in error.message:
            raise
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error


def read_model(path: Path) -> onnx.ModelProto:
    """The same without what else was found."""
    return read(path).model
