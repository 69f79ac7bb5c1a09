"""Keras models (.h5, .keras), by Keras 3 on PyTorch: TensorFlow is not needed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

os.environ["KERAS_BACKEND"] = "torch"  # read once, while keras is first imported

import keras  # its own package: absolute imports do not mean this file
import numpy as np
import torch

from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.optimize.from_torch import exported, quiet, sentence
from edgeward.optimize.readers.base import Original, Read, Reader

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

_MAGIC = {".h5": b"\x89HDF", ".hdf5": b"\x89HDF", ".keras": b"PK\x03\x04"}
_FREE_SIZE = 16
"""What a free inner dimension is while the graph is traced."""


class FromKeras:
    suffixes = (".h5", ".hdf5", ".keras")

    def read(self, path: Path) -> Read:
        if keras.backend.backend() != "torch":
            raise Unsupported(f"Keras was started on {keras.backend.backend()}; wanted PyTorch")
        _check(path)
        with quiet(), keras.device("cpu"):
            module = _Flat(_loaded(path))
            model, note = _converted(module)
        return Read(model, ("Keras on PyTorch brought it to ONNX", *note), _original(module))


class _Flat(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """The model with one argument for each of its inputs, and a plain sequence of answers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, *tensors: Any) -> tuple[Any, ...]:
        given = keras.tree.pack_sequence_as(self.model.input, list(tensors))
        return tuple(keras.tree.flatten(self.model(given, training=False)))


def _check(path: Path) -> None:
    if not path.is_file():
        raise WrongInput(f"{path}: no such model file")
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        raise WrongInput("this file is empty, wanted a Keras model")
    if start != _MAGIC.get(path.suffix.lower(), start):
        kind = "a zip archive with a Keras model in it" if path.suffix.lower() == ".keras" else "an HDF5 file"
        raise WrongInput(f"this is no Keras model: wanted {kind}")


def _loaded(path: Path) -> Any:
    """Never runs code from the file: Keras refuses Lambda layers and classes that it does not know."""
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        symbols = keras.tree.flatten(model.inputs)
    except (Unsupported, WrongInput):
        raise
    except Exception as error:
        raise _told(error) from error
    if not symbols:
        raise Unsupported("this Keras model does not say what it takes", hint="start it with keras.Input(shape=…)")
    return model


def _told(error: Exception) -> Exception:
    text = sentence(error)
    if "ambda" in text:
        return Unsupported(
            "this Keras model has a Lambda layer, which is Python code inside the file and is never run",
            hint="replace the Lambda by a layer of Keras, and save it again",
        )
    if "Could not locate" in text or "Unknown layer" in text or "not registered" in text:
        return Unsupported(f"this Keras model needs a class that stands in other code: {text}")
    if "No model config" in text or "model_config" in text:
        return WrongInput(
            "there are weights without a model in this file", hint="save it with model.save(), not save_weights()"
        )
    return WrongInput(f"this is no Keras model, or a damaged one: {text}")


def _converted(module: _Flat) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    symbols = keras.tree.flatten(module.model.inputs)
    names = [_plain(symbol.name) for symbol in symbols]
    free = tuple({axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(s.shape) if size is None} for s in symbols)
    with torch.no_grad():
        try:
            return exported(module, _examples(symbols, 2), input_names=names, dynamic_shapes=(free,)), ()
        except Unsupported:
            model = exported(module, _examples(symbols, 1), input_names=names)
    return model, ("its free dimensions could not be kept: it takes one sample at a time",)


def _examples(symbols: list[Any], batch: int) -> list[Any]:
    return [
        torch.zeros(
            [batch if axis == 0 and size is None else size or _FREE_SIZE for axis, size in enumerate(symbol.shape)],
            dtype=getattr(torch, keras.backend.standardize_dtype(symbol.dtype)),
        )
        for symbol in symbols
    ]


def _plain(name: str) -> str:
    return name.partition(":")[0]


def _original(module: _Flat) -> Original:
    names = [_plain(symbol.name) for symbol in keras.tree.flatten(module.model.inputs)]

    def answer(feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        with torch.no_grad(), quiet(), keras.device("cpu"):
            values = module(*(torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in names))
        return [value.numpy() for value in values]

    return answer


plugin: Reader = FromKeras()
