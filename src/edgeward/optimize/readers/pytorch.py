"""PyTorch exported programs (.pt2), by PyTorch's own exporter to ONNX."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.optimize.readers.base import Original, Read, Reader


class FromPyTorch:
    suffixes = (".pt2",)

    def read(self, path: Path) -> Read:
        if not path.is_file():
            raise WrongInput(f"{path}: no such model file")
        with _quiet():
            program = _loaded(path)
            model = _exported(program)
        return Read(model, ("PyTorch's exporter brought it to ONNX",), _original(program, model))


def _loaded(path: Path) -> Any:
    try:
        return torch.export.load(path)
    except Exception as error:
        raise WrongInput(
            f"this is no PyTorch exported program: {_sentence(error)}", hint="torch.export.save(program, 'model.pt2')"
        ) from error


def _exported(program: Any) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        file = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(program, f=str(file), dynamo=True, external_data=False, verbose=False)
            model = onnx.load(str(file))
        except Exception as error:
            raise Unsupported(f"PyTorch cannot bring this program to ONNX: {_sentence(error)}") from error
    for part in (model.graph, *model.graph.node, *model.graph.value_info):
        part.ClearField("metadata_props")  # where on the exporting machine the code stood
    return model


def _original(program: Any, model: onnx.ModelProto) -> Original:
    names = [node.name for node in model.graph.input]
    module = program.module()

    def answer(feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        with torch.no_grad():
            given = module(*(torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in names))
        return [value.numpy() for value in (given if isinstance(given, tuple | list) else (given,))]

    return answer


@contextlib.contextmanager
def _quiet() -> Any:
    """The exporter talks on standard output, by warnings and in the log."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


plugin: Reader = FromPyTorch()
