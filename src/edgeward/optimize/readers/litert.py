"""LiteRT (.tflite), with and without signatures, float and quantised."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import runtimes
from edgeward.kit.errors import WrongInput
from edgeward.optimize.from_litert import LiteRtFile, Tensor, convert, decode
from edgeward.optimize.readers.base import Original, Read, Reader


class FromLiteRt:
    suffixes = (".tflite",)

    def read(self, path: Path) -> Read:
        if not path.is_file():
            raise WrongInput(f"{path}: no such model file")
        data = path.read_bytes()
        if not data:
            raise WrongInput("this file is empty, wanted a LiteRT model")
        file = decode(data)
        converted = convert(file)
        operators = f"{len(file.operators)} LiteRT operators became {len(converted.model.graph.node)} of ONNX"
        is_quantized = any(tensor.is_quantized and tensor.value is None for tensor in file.tensors)
        return Read(converted.model, (operators, *converted.notes), _original(data, file), is_quantized)


def _original(data: bytes, file: LiteRtFile) -> Original:
    """LiteRT itself. Where ONNX takes or gives real numbers for the file's int8, they are rounded and scaled here."""

    def answer(feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        session = runtimes.load("litert").load(data, threads=1)
        given = [_stored(feeds[name], file.tensors[index]) for name, index in file.inputs]
        values = session.run({spec.name: value for spec, value in zip(session.inputs, given, strict=True)})
        return [_real(value, file.tensors[index]) for value, (_, index) in zip(values, file.outputs, strict=True)]

    return answer


def _stored(value: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    if value.dtype == tensor.dtype or not tensor.is_quantized:
        return np.asarray(value, tensor.dtype)
    limits = np.iinfo(tensor.dtype)
    steps = np.rint(value / tensor.scales.scale[0]) + tensor.scales.zero_point[0]
    return np.asarray(np.clip(steps, limits.min, limits.max), tensor.dtype)


def _real(value: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    if not tensor.is_quantized:
        return value
    return np.asarray((value.astype(np.float32) - tensor.scales.zero_point[0]) * tensor.scales.scale[0], np.float32)


plugin: Reader = FromLiteRt()
