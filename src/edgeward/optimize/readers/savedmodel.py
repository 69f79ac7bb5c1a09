"""TensorFlow SavedModels: folders with a saved_model.pb. TensorFlow brings them to LiteRT in a process of its own, in
this environment or in that of the interpreter which EDGEWARD_TENSORFLOW_PYTHON names; its answers are compared.

A SavedModel is a program: TensorFlow runs its operators while loading and answering. What could read or write other
files, or call Python, is refused before; beyond that it is trusted as far as TensorFlow trusts it.
"""

import io
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import Failed, Refused, Unsupported, WrongInput
from edgeward.kit.process import Partner
from edgeward.optimize import with_tensorflow
from edgeward.optimize.from_litert import convert, decode
from edgeward.optimize.readers.base import Original, Read, Reader

_PYTHON = "EDGEWARD_TENSORFLOW_PYTHON"
_CONVERSION_LIMIT_S = 600
_ANSWER_LIMIT_S = 60
_REFUSED = ("WriteFile", "ReadFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc", "DeleteFile")
"""Operators of other files and other code, which a model that answers has no use for."""


class FromSavedModel:
    suffixes = ("",)

    def read(self, path: Path) -> Read:
        _check(path)
        python = os.environ.get(_PYTHON) or sys.executable
        if python == sys.executable and find_spec("tensorflow") is None:
            raise Unsupported(
                "a SavedModel is read by TensorFlow, which is not installed",
                hint=f"pip install 'edgeward[tensorflow]', or {_PYTHON}=/path/to/an/environment/bin/python",
            )
        try:
            partner = Partner([python, "-P", with_tensorflow.__file__, str(path.resolve())])
        except OSError as error:
            raise WrongInput(f"{_PYTHON}: {python} cannot be started: {error.strerror}") from error
        try:
            file = decode(_told(partner.hear(limit_s=_CONVERSION_LIMIT_S)))
        except Failed as error:
            partner.__exit__(None, None, None)
            raise Unsupported(f"TensorFlow cannot bring this SavedModel to LiteRT: {error.message}") from error
        found = convert(file)
        names = [node.name for node in found.model.graph.output]
        notes = ("TensorFlow brought it to LiteRT, and that to ONNX", *found.notes)
        return Read(found.model, notes, _original(partner, names))


def _check(path: Path) -> None:
    data = (path / "saved_model.pb").read_bytes()
    if not data:
        raise WrongInput(f"{path}: its saved_model.pb is empty")
    for name in _REFUSED:
        # How protocol buffers keep the operator of a node: field 2, the length, the name.
        if b"\x12" + bytes([len(name)]) + name.encode() in data:
            raise Refused(
                f"the operator {name} in it reaches beyond the model, to other files or code, so it is not loaded",
                hint="export the model without it",
            )


def _told(message: bytes) -> bytes:
    if message[:1] == b"+":
        return message[1:]
    text = message[1:].decode(errors="replace")
    if text.startswith("ModuleNotFoundError"):
        raise Failed(f"{os.environ.get(_PYTHON, sys.executable)} has no TensorFlow ({text.partition(': ')[2]})")
    raise Failed(text.partition(": ")[2] or text)


def _original(partner: Partner, names: list[str]) -> Original:
    def answer(feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        buffer = io.BytesIO()
        np.savez(buffer, **feeds)  # type: ignore[arg-type]
        reply = _told(partner.ask(buffer.getvalue(), limit_s=_ANSWER_LIMIT_S))
        with np.load(io.BytesIO(reply), allow_pickle=False) as arrays:
            return [arrays[name] for name in names]

    return answer


plugin: Reader = FromSavedModel()
