"""PyTorch exported programs (.pt2), by PyTorch's own exporter to ONNX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edgeward.kit.errors import WrongInput
from edgeward.optimize.from_torch import exported, quiet, sentence
from edgeward.optimize.readers.base import Original, Read, Reader


class FromPyTorch:
    suffixes = (".pt2",)

    def read(self, path: Path) -> Read:
        if not path.is_file():
            raise WrongInput(f"{path}: no such model file")
        with quiet():
            program = _loaded(path)
            model = exported(program)
        return Read(model, ("PyTorch's exporter brought it to ONNX",), _original(program, model))


def _loaded(path: Path) -> Any:
    try:
        return torch.export.load(path)
    except Exception as error:
        raise WrongInput(
            f"this is no PyTorch exported program: {sentence(error)}", hint="torch.export.save(program, 'model.pt2')"
        ) from error


def _original(program: Any, model: onnx.ModelProto) -> Original:
    names = [node.name for node in model.graph.input]
    module = program.module()

    def answer(feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        with torch.no_grad():
            given = module(*(torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in names))
        return [value.numpy() for value in (given if isinstance(given, tuple | list) else (given,))]

    return answer


plugin: Reader = FromPyTorch()
