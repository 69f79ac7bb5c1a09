"""Model files of other frameworks, brought to ONNX, one member each; what has no reader of its own is read as ONNX."""

from pathlib import Path
from typing import cast

import onnx

from edgeward.kit import plugins
from edgeward.kit.errors import EdgewardError
from edgeward.optimize.readers.base import Original, Read, Reader

__all__ = ["Original", "Read", "Reader", "is_model_folder", "load", "names", "read", "read_model"]

_BY_SUFFIX = {".tflite": "litert", ".pt2": "pytorch", ".h5": "keras", ".hdf5": "keras", ".keras": "keras"}


def names() -> tuple[str, ...]:
    """The formats that are read."""
    return plugins.names(__name__)


def load(format_name: str) -> Reader:
    """The reader of `format_name`. Raises Unsupported, with the extra to install, when its package is missing."""
    extra = {"pytorch": "train", "savedmodel": "tensorflow"}.get(format_name, format_name)
    return cast(Reader, plugins.load(__name__, format_name, extra=extra))


def read(path: Path) -> Read:
    """The model in `path`. Raises WrongInput or Unsupported, with the path, for what cannot be read."""
    try:
        return load(_format_of(path)).read(path)
    except EdgewardError as error:
        if str(path) in error.message:
            raise
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error


def is_model_folder(path: Path) -> bool:
    """Whether `path` is a model that is kept as a folder, and no bundle."""
    return (path / "saved_model.pb").is_file()


def _format_of(path: Path) -> str:
    return "savedmodel" if is_model_folder(path) else _BY_SUFFIX.get(path.suffix.lower(), "onnx")


def read_model(path: Path) -> onnx.ModelProto:
    """The same without what else was found."""
    return read(path).model
