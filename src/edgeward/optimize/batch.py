"""Models that were exported for batches of several samples, for one at a time."""

import math

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeward.infer import runtimes
from edgeward.kit.errors import EdgewardError, Unsupported

_TOLERANCE = 1e-3
_MOST_SAMPLES = 4096
_MOST_BYTES = 1_000_000_000
"""Beyond either the proof would take longer than anybody waits, or more memory than there is."""


def with_free_batch(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with a free first dimension where it was fixed to more than one sample, proved on numbers by chance;
    and a note. Raises Unsupported where the batch is part of its arithmetic."""
    size = _fixed_batch(model)
    if size is None:
        return model, ()
    _check_size(model, size)
    free = _freed(model, size)
    if not _answer_alike(model, free, size):
        raise Unsupported(
            f"the model takes batches of {size} samples alone, and its answers depend on that",
            hint="export it for a batch of 1, or with a free batch dimension",
        )
    return free, (f"exported for batches of {size}: here it takes one sample at a time, with the same answers",)


def _check_size(model: onnx.ModelProto, size: int) -> None:
    elements = sum(math.prod(_lengths(entry)) for entry in _inputs(model))
    if size > _MOST_SAMPLES or elements * 8 > _MOST_BYTES:
        raise Unsupported(
            f"the model takes batches of {size} samples alone, {elements} numbers at once: too many to prove that it "
            "could take one",
            hint="export it for a batch of 1, or with a free batch dimension",
        )


def _fixed_batch(model: onnx.ModelProto) -> int | None:
    constants = {tensor.name for tensor in model.graph.initializer}
    dims = [entry.type.tensor_type.shape.dim for entry in model.graph.input if entry.name not in constants]
    sizes = {dim[0].dim_value if len(dim) else 0 for dim in dims}
    found = sizes.pop() if len(sizes) == 1 else 0
    return found if found > 1 else None


def _freed(model: onnx.ModelProto, size: int) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for entry in (*copy.graph.input, *copy.graph.output):
        dims = entry.type.tensor_type.shape.dim
        if len(dims) and dims[0].dim_value == size:
            dims[0].dim_param = "batch"
    shapes = {node.input[1] for node in copy.graph.node if node.op_type == "Reshape" and len(node.input) > 1}
    for tensor in copy.graph.initializer:
        if tensor.name in shapes:
            tensor.CopyFrom(_open_shape(tensor, size))
    for node in copy.graph.node:
        if node.op_type == "Constant" and node.output[0] in shapes:
            for entry in node.attribute:
                if entry.name == "value":
                    entry.t.CopyFrom(_open_shape(entry.t, size))
    return copy


def _open_shape(tensor: onnx.TensorProto, size: int) -> onnx.TensorProto:
    """The shape that a Reshape is told, with its first entry left open."""
    shape = numpy_helper.to_array(tensor).copy()
    if shape.ndim == 1 and len(shape) and shape[0] == size:
        shape[0] = 0 if -1 in shape else -1
    return numpy_helper.from_array(shape, tensor.name)


def _answer_alike(model: onnx.ModelProto, free: onnx.ModelProto, size: int) -> bool:
    generator = np.random.default_rng(0)
    whole = {entry.name: _drawn(entry, generator) for entry in _inputs(model)}
    engine = runtimes.load("onnxruntime")
    try:
        expected = engine.load(model.SerializeToString(), threads=1).run(whole)
        session = engine.load(free.SerializeToString(), threads=1)
        rows = [session.run({name: value[at : at + 1] for name, value in whole.items()}) for at in range(size)]
    except EdgewardError:
        return False
    joined = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
    return all(
        want.shape == got.shape and np.allclose(want, got, rtol=_TOLERANCE, atol=_TOLERANCE * _size_of(want))
        for want, got in zip(expected, joined, strict=True)
    )


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [entry for entry in model.graph.input if entry.name not in constants]


def _lengths(entry: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value or 2 for dim in entry.type.tensor_type.shape.dim]


def _drawn(entry: onnx.ValueInfoProto, generator: np.random.Generator) -> NDArray[np.generic]:
    """Numbers by chance; a dimension that is free has a length of 2."""
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))
    shape = _lengths(entry)
    return np.asarray(generator.normal(size=shape) if kind.kind == "f" else generator.integers(0, 2, shape)).astype(
        kind
    )


def _size_of(values: NDArray[np.generic]) -> float:
    return float(np.abs(values.astype(np.float64)).max()) if values.size and values.dtype.kind in "fiub" else 1.0
