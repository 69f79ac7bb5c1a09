"""What each layer of a model costs in each runtime, in float and in int8: the micro-benchmark behind a forecast."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import onnx

from edgeward.infer import runtimes
from edgeward.infer.runtimes import NodeTime
from edgeward.kit.errors import EdgewardError
from edgeward.measure.node_times import node_times
from edgeward.measure.one_cpu import fast_cpu
from edgeward.optimize import exporters
from edgeward.optimize.layers import (
    BRANCH,
    TAIL,
    LayerShape,
    between_floats,
    channels_last,
    in_int8,
    pooled_last,
    with_branch,
    with_tail,
)
from edgeward.optimize.named_layers import HEAVY

RUNTIMES = {"onnxruntime": "", "litert": "", "openvino": "", "litert-amx": "amx_int8"}
"""Where layers are tried, and the CPU feature that a runtime is for."""
_SECONDS = 0.35
"""For each runtime, besides loading: a small model's three take about three seconds in all."""
_LIMIT_S = 4.0
"""For each runtime, on a machine that is slow or busy; the layers with least work are left out then."""
_MACS_PER_S = 1e10
_BYTES_PER_S = 5e9
_RUNS = 8
"""A layer is run about so many times, in float and int8 together."""
_MOST_WORK_S = 1.0
_MOST_SHAPES = 40
_MOST_BYTES = 256 << 20
_NOTHING = b""
"""Stands for a model that need not run."""
_OPENVINO_HEAVY = (
    "Convolution", "GroupConvolution", "Deconvolution", "FullyConnected", "FullyConnectedQuantizedLegacy", "MatMul",
)  # fmt: skip


class Cost(NamedTuple):
    """Milliseconds of one layer in float and in int8."""

    float_ms: float
    int8_ms: float

    @property
    def gain(self) -> float:
        return self.float_ms / self.int8_ms


class LayerTimes(NamedTuple):
    """Costs in the order of `shapes`, by runtime; None for a shape that did not run. Or why a runtime has none."""

    shapes: tuple[LayerShape, ...]
    costs: dict[str, tuple[Cost | None, ...]]
    refused: dict[str, str]


def measure_layers(
    shapes: Sequence[LayerShape], features: Collection[str], *, threads: int, reduced: bool
) -> LayerTimes:
    """Runs every shape in every runtime that is installed and fits the CPU; of a big model those with most work."""
    tried = _with_most_work(shapes)
    costs: dict[str, tuple[Cost | None, ...]] = {}
    refused: dict[str, str] = {}
    for runtime, needed in RUNTIMES.items():
        if needed and needed not in features:
            continue
        try:
            runtimes.load(runtime)
            costs[runtime] = _costs(runtime, tried, threads, reduced=reduced)
        except EdgewardError as error:
            refused[runtime] = error.message
    return LayerTimes(tried, costs, refused)


def _with_most_work(shapes: Sequence[LayerShape]) -> tuple[LayerShape, ...]:
    """In graph order, within the time that a forecast may take; at least one."""
    ranked = sorted(range(len(shapes)), key=lambda place: -work_s(shapes[place]) * len(shapes[place].names))
    kept, spent_s, taken_bytes = list[int](), 0.0, 0
    for place in ranked[:_MOST_SHAPES]:
        spent_s += _RUNS * work_s(shapes[place])
        taken_bytes += shapes[place].weight_bytes
        if kept and (spent_s > _MOST_WORK_S or taken_bytes > _MOST_BYTES):
            break
        kept.append(place)
    return tuple(shapes[place] for place in sorted(kept))


def work_s(shape: LayerShape) -> float:
    """A rough guess, to tell big layers from small ones."""
    return shape.macs / _MACS_PER_S + shape.moved_bytes / _BYTES_PER_S + 2e-6


def _costs(runtime: str, shapes: Sequence[LayerShape], threads: int, *, reduced: bool) -> tuple[Cost | None, ...]:
    make = _MAKERS[runtime.partition("-")[0]]
    cost = _cost_in_openvino if runtime == "openvino" else _cost
    # Those with most work first: they are in time where not all are.
    order = sorted(range(len(shapes)), key=lambda place: -work_s(shapes[place]) * len(shapes[place].names))
    models = [model for place in order for model in make(shapes[place], reduced=reduced)]
    cpu = fast_cpu() if threads == 1 else None  # the same for all runtimes: they are compared
    times = node_times(runtime, models, threads=threads, seconds=_SECONDS, together=2, limit_s=_LIMIT_S, cpu=cpu)
    found = {place: cost(shapes[place], *times[2 * rank : 2 * rank + 2]) for rank, place in enumerate(order)}
    return tuple(found[place] for place in range(len(shapes)))


_Times = Sequence[NodeTime] | str


def _cost(shape: LayerShape, in_float: _Times, as_int8: _Times) -> Cost | None:
    """None where one of the two did not run, or the runtime made nothing of it. What turns tensors from one layout to
    another is not counted: inside a model the neighbours have the same one."""

    def milliseconds(nodes: Sequence[NodeTime]) -> float:
        return sum(
            node.time_ms
            for node in nodes
            if not node.name.startswith((BRANCH, TAIL)) and (not node.is_conversion or shape.op == "Transpose")
        )

    if isinstance(in_float, str) or isinstance(as_int8, str):
        return None
    return _cost_of(milliseconds(in_float), milliseconds(as_int8))


def _cost_in_openvino(shape: LayerShape, in_float: _Times, as_int8: _Times) -> Cost | None:
    """Of the kernels that multiply: the others are its conversions for this one layer, which cannot be told apart. A
    layer that multiplies nothing is taken to cost the same."""
    if shape.op not in HEAVY:
        return _cost(shape, in_float, in_float)
    if isinstance(in_float, str) or isinstance(as_int8, str):
        return None
    return _cost_of(*(_multiplying_ms(nodes) for nodes in (in_float, as_int8)))


def _multiplying_ms(nodes: Sequence[NodeTime]) -> float:
    return sum(
        node.time_ms for node in nodes if node.kernel in _OPENVINO_HEAVY and not node.name.startswith((BRANCH, TAIL))
    )


def _cost_of(float_ms: float, int8_ms: float) -> Cost | None:
    return Cost(float_ms, int8_ms) if float_ms > 0 and int8_ms > 0 else None


def _for_onnxruntime(shape: LayerShape, *, reduced: bool) -> tuple[bytes, bytes]:
    quantised = pooled_last(in_int8(shape, "uint8", reduced=reduced))
    return with_branch(shape.float_model).SerializeToString(), quantised.SerializeToString()


def _for_openvino(shape: LayerShape, *, reduced: bool) -> tuple[bytes, bytes]:
    if shape.op not in HEAVY:
        return with_tail(shape.float_model).SerializeToString(), _NOTHING
    quantised = between_floats(in_int8(shape, "uint8", reduced=reduced))
    return with_tail(shape.float_model).SerializeToString(), with_tail(quantised).SerializeToString()


def _for_litert(shape: LayerShape, *, reduced: bool) -> tuple[bytes, bytes]:  # noqa: ARG001 - it needs all eight bits nowhere
    export: Callable[[onnx.ModelProto], exporters.Exported] = exporters.load("litert").export
    return (
        export(channels_last(shape.float_model)).data,
        export(channels_last(in_int8(shape, "int8", reduced=False))).data,
    )


_MAKERS = {"onnxruntime": _for_onnxruntime, "litert": _for_litert, "openvino": _for_openvino}
