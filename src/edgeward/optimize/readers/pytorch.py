"""PyTorch exported programs (.pt2), by PyTorch's own exporter to ONNX. Pickled code inside one is never run."""

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch.export.pt2_archive._package import PT2ArchiveReader

from edgeward.kit.errors import Refused, WrongInput
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
    data = path.read_bytes()
    if not data:
        raise WrongInput("this file is empty, wanted a PyTorch exported program")
    try:
        _refuse_objects(data)
        with _weights_only():
            return torch.export.load(io.BytesIO(data))
    except Refused:
        raise
    except Exception as error:
        if "Weights only load failed" in str(error):
            raise _refusal() from error
        raise WrongInput(
            f"this is no PyTorch exported program: {sentence(error)}", hint="torch.export.save(program, 'model.pt2')"
        ) from error


def _refuse_objects(data: bytes) -> None:
    """PyTorch unpickles these members whatever it is told. Its own reader lists them: another might see other names."""
    names = [str(name).lower() for name in PT2ArchiveReader(io.BytesIO(data)).get_file_names()]
    if any("opaque_obj_" in name or "custom_obj_" in name for name in names):
        raise _refusal()


def _refusal() -> Refused:
    return Refused(
        "there are pickled objects in this PyTorch program: loading them could run any code, so they are not loaded",
        hint="export it again with torch.export.save from a model of plain tensors",
    )


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
    """torch.export.load asks torch.load for whole pickles; this switch of PyTorch's overrules it."""
    switches = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}
    before = {name: os.environ.get(name) for name in switches}
    os.environ.update(switches)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _original(program: Any, model: onnx.ModelProto) -> Original:
    names = [node.name for node in model.graph.input]
    module = program.module()

    def answer(feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        with torch.no_grad():
            given = module(*(torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in names))
        return [value.numpy() for value in (given if isinstance(given, tuple | list) else (given,))]

    return answer


plugin: Reader = FromPyTorch()
