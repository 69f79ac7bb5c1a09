"""What layers multiply their weights by, as G = E[x·xᵀ] over calibration samples: an error Δw of the weights moves the
layer's output by Δw·G·Δw, squared and on average."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnx

from edgeward.infer import Predictor, Sample, runtimes
from edgeward.optimize.wiring import Array, Wiring, attribute, making
from edgeward.records.model import Preprocess

_POSITIONS = 128
"""Places of one sample's output that count; all of them would say the same again."""
_LONGEST = 2304
"""Weights behind one output; the G of longer ones would take too much memory and time."""
_GRAMS = 2**26
"""So many numbers of all G at a time, a quarter of a gigabyte: the samples run once more for the layers that remain."""


class Layer(NamedTuple):
    """A layer's weights as groups × outputs × inputs, the operator they belong to, and a convolution's kernel."""

    node: onnx.NodeProto
    weight: Array
    kernel: tuple[int, ...] = ()


def layers_of(wiring: Wiring) -> list[Layer]:
    """Conv, Gemm and MatMul with constant float weights, in the order they run."""
    found = []
    for node in wiring.graph.node:
        weight = wiring.constant(node, 1)
        if node.op_type not in ("Conv", "Gemm", "MatMul") or weight is None or weight.dtype != np.float32:
            continue
        if node.op_type == "Conv":
            groups = attribute(node, "group", 1)
            split = weight.reshape(groups, len(weight) // groups, -1).astype(np.float64)
            found.append(Layer(node, split, weight.shape[2:]))
        elif weight.ndim == 2 and not attribute(node, "transA", 0):
            turned = bool(attribute(node, "transB", 0))
            found.append(Layer(node, (weight if turned else weight.T)[None].astype(np.float64)))
    return found


def grams_of(
    model: onnx.ModelProto, layers: Sequence[Layer], samples: Sequence[Sample], preprocess: Preprocess
) -> dict[str, Array]:
    """G of each layer by the name of its output; without the layers that are left."""
    found = with_grams(model, layers, samples, preprocess)
    return {layer.node.output[0]: gram for layer, gram in found if gram is not None}


def with_grams(
    model: onnx.ModelProto, layers: Sequence[Layer], samples: Sequence[Sample], preprocess: Preprocess
) -> Iterator[tuple[Layer, Array | None]]:
    """Each layer with E[x·xᵀ] of what its outputs are made of, None for those that are left; few at a time."""
    group: list[Layer] = []
    for layer in layers:
        if not _is_learned(layer):
            yield layer, None
            continue
        if group and sum(map(_gram_size, [*group, layer])) > _GRAMS:
            yield from _grams(model, group, samples, preprocess)
            group = []
        group.append(layer)
    if group:
        yield from _grams(model, group, samples, preprocess)


def _is_learned(layer: Layer) -> bool:
    return layer.weight.shape[2] <= _LONGEST and _is_plain(layer.node)


def _gram_size(layer: Layer) -> int:
    return int(len(layer.weight) * layer.weight.shape[2] ** 2)


def _grams(
    model: onnx.ModelProto, layers: Sequence[Layer], samples: Sequence[Sample], preprocess: Preprocess
) -> Iterator[tuple[Layer, Array]]:
    feeds = list(dict.fromkeys(layer.node.input[0] for layer in layers))
    sums = [np.zeros((len(layer.weight), *layer.weight.shape[2:] * 2), np.float32) for layer in layers]
    for values in _values(model, feeds, samples, preprocess):
        for layer, total in zip(layers, sums, strict=True):
            rows = _rows(layer, values[layer.node.input[0]])
            total += rows.transpose(0, 2, 1) @ rows
    yield from zip(layers, sums, strict=True)


def _values(
    model: onnx.ModelProto, names: Sequence[str], samples: Sequence[Sample], preprocess: Preprocess
) -> Iterator[dict[str, Array]]:
    """Values inside the model, or its inputs, sample by sample, without a batch axis."""
    inputs = {entry.name for entry in model.graph.input}
    inner = [name for name in names if name not in inputs]
    whole = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)
    prepare = Predictor(whole, preprocess=preprocess)
    if inner:
        part = runtimes.load("onnxruntime").load(making(model, inner).SerializeToString(), threads=1)
        predictor = Predictor(part, preprocess=preprocess)
    for sample in samples:
        tensors = dict(prepare.tensors(sample))
        yield tensors | (predictor.answer(sample).outputs if inner else {})


def _is_plain(node: onnx.NodeProto) -> bool:
    return node.op_type != "Conv" or attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID", b"")


def _rows(layer: Layer, value: Array) -> Array:
    """Groups × places × inputs: what some places of the layer's output are made of."""
    node, groups = layer.node, len(layer.weight)
    if node.op_type != "Conv":
        rows = np.asarray(value, np.float32).reshape(1, -1, layer.weight.shape[2])
        return rows[:, np.linspace(0, rows.shape[1] - 1, min(rows.shape[1], _POSITIONS)).astype(int)]
    rank = len(layer.kernel)
    pads, strides = attribute(node, "pads", [0] * 2 * rank), attribute(node, "strides", [1] * rank)
    dilations = attribute(node, "dilations", [1] * rank)
    padded = np.pad(value, [(0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    reach = [(size - 1) * gap + 1 for size, gap in zip(layer.kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(1, rank + 1)))
    seen = windows[(slice(None), *(slice(None, None, gap) for gap in (*strides, *dilations)))]
    places = int(np.prod(seen.shape[1 : rank + 1]))
    kept = np.unravel_index(np.linspace(0, places - 1, min(places, _POSITIONS)).astype(int), seen.shape[1 : rank + 1])
    columns = np.stack([seen[:, *place] for place in zip(*kept, strict=True)], axis=1).astype(np.float32)
    by_group = columns.reshape(groups, len(value) // groups, len(kept[0]), -1)
    return by_group.transpose(0, 2, 1, 3).reshape(groups, len(kept[0]), -1)
