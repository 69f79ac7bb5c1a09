"""Kernels and a model's own graph → layers with their work: multiplications, bytes moved, and where each ran."""

from collections.abc import Sequence
from typing import NamedTuple

import onnx

from edgeward.infer.runtimes import Account, Kernel
from edgeward.measure.profiling.fates import Fates, fates, told_by_graph
from edgeward.measure.profiling.onnx_graph import numbers_in
from edgeward.measure.profiling.source_graph import BYTES, SourceGraph
from edgeward.measure.work import KINDS

CONVERSIONS = frozenset({
    "QuantizeLinear", "DequantizeLinear", "Cast", "QUANTIZE", "DEQUANTIZE", "CAST", "DynamicQuantizeLinear", "Convert",
})  # fmt: skip


class Work(NamedTuple):
    """One layer as it ran. `macs` and bytes are None where its operators or their shapes are not known.

    `kept_bytes` are weights, read in every run; `moved_bytes` all that is read and written, weights included.
    """

    name: str
    op: str
    places: tuple[int, ...]
    shape: tuple[int, ...] | None
    time_ms: float
    device: str
    precision: str
    kernel: str
    macs: int | None
    operations: int | None
    moved_bytes: int | None
    kept_bytes: int
    is_layout: bool
    is_conversion: bool
    is_depthwise: bool
    channels: tuple[int, ...]


def layers_of(account: Account, graph: SourceGraph) -> tuple[tuple[Work, ...], Fates]:
    """In the order they ran; kernels of one operator, one behind another, are one layer."""
    told = _told(account, graph)
    kernels, places = _merged(account.kernels, told)
    found = fates(graph, places)
    works = tuple(_work(kernel, found.of_kernels[number], graph) for number, kernel in enumerate(kernels))
    return works, found


def _told(account: Account, graph: SourceGraph) -> list[tuple[int, ...]]:
    """The operators of each kernel as its runtime names them."""
    if account.graph:
        known = told_by_graph(graph, onnx.load_model_from_string(account.graph))
        return [known.get(kernel.time.name, ()) for kernel in account.kernels]
    named = [_named(kernel.sources, graph) for kernel in account.kernels]
    return _with_parts(account, named, graph) if account.assigned else named


def _with_parts(account: Account, named: Sequence[tuple[int, ...]], graph: SourceGraph) -> list[tuple[int, ...]]:
    """A kernel that a back-end compiled names no operator: the parts that it was assigned, in turn, are its own."""
    taken = {place for places in named for place in places}
    parts: dict[str, dict[int, list[int]]] = {}
    for one in account.assigned:
        for place in numbers_in(one.name):
            if place not in taken and place < len(graph.nodes):
                parts.setdefault(one.device, {}).setdefault(one.part, []).append(place)
    waiting = {device: [tuple(parts[device][key]) for key in sorted(parts[device])] for device in parts}
    return [
        places or (waiting[kernel.device].pop(0) if waiting.get(kernel.device) and kernel.device != "CPU" else ())
        for kernel, places in zip(account.kernels, named, strict=True)
    ]


def _named(sources: Sequence[str], graph: SourceGraph) -> tuple[int, ...]:
    """By place, by a name that was made of it, or by a result of the whole model, which keeps its name."""
    if any(name.isdigit() for name in sources):
        return tuple(int(name) for name in sources if name.isdigit())
    words = [word for name in sources for word in name.split(",")]
    found = [place for word in words for place in numbers_in(word)]
    found += [graph.makers[word] for word in words if word in graph.outputs and word in graph.makers]
    return tuple(dict.fromkeys(found))


def _merged(kernels: Sequence[Kernel], told: Sequence[tuple[int, ...]]) -> tuple[list[Kernel], list[tuple[int, ...]]]:
    merged, places = list[Kernel](), list[tuple[int, ...]]()
    for kernel, mine in zip(kernels, told, strict=True):
        if merged and mine and mine == places[-1] and kernel.device == merged[-1].device:
            before = merged[-1]
            time = before.time._replace(time_ms=before.time.time_ms + kernel.time.time_ms)
            merged[-1] = before._replace(time=time, detail=" + ".join(filter(None, (before.detail, kernel.detail))))
            continue
        merged.append(kernel)
        places.append(mine)
    return merged, places


def _work(kernel: Kernel, places: tuple[int, ...], graph: SourceGraph) -> Work:
    nodes = [graph.nodes[place] for place in places]
    main = max(nodes, key=lambda node: node.macs or 0, default=None)
    precision = kernel.precision or _precision(places, graph)
    macs = None if not nodes or any(node.macs is None for node in nodes) else sum(node.macs or 0 for node in nodes)
    moved, kept = _bytes(places, graph, precision)
    output = graph.tensors.get(nodes[-1].outputs[0]) if nodes and nodes[-1].outputs else None
    return Work(
        name=main.name if main else _inserted(kernel.time.name, graph), op=_op(kernel, [node.op for node in nodes]),
        places=places, shape=output.shape if output else None, time_ms=kernel.time.time_ms, device=kernel.device,
        precision=precision, kernel=kernel.detail or kernel.time.kernel, macs=macs,
        operations=None if macs is None or output is None else 2 * macs if macs else output.elements,
        moved_bytes=moved, kept_bytes=kept, is_layout=_is_layout(kernel, [node.op for node in nodes]),
        is_conversion=_is_conversion(kernel, [node.op for node in nodes]),
        is_depthwise=main is not None and main.is_depthwise, channels=_channels(places, graph),
    )  # fmt: skip


def _inserted(name: str, graph: SourceGraph) -> str:
    """What the runtime put in has a name of its own; where that is made of an operator's, it is said which."""
    places = [place for place in numbers_in(name) if place < len(graph.nodes)]
    return f"for {graph.nodes[places[0]].name}" if places else name


def _op(kernel: Kernel, ops: Sequence[str]) -> str:
    """The operators in it, those that multiply first; what only rounds is not named beside others."""
    told = sorted([op for op in ops if op not in CONVERSIONS] or ops, key=lambda op: op not in KINDS)
    return " + ".join(told[:4]) + (f" + {len(told) - 4} more" if len(told) > 4 else "") or kernel.time.kernel


def _is_layout(kernel: Kernel, ops: Sequence[str]) -> bool:
    return kernel.time.is_conversion and not any(op in KINDS for op in ops)


def _is_conversion(kernel: Kernel, ops: Sequence[str]) -> bool:
    return all(op in CONVERSIONS for op in ops) if ops else kernel.time.kernel in CONVERSIONS


def _precision(places: tuple[int, ...], graph: SourceGraph) -> str:
    """Where the runtime does not tell: the type of what the operator reads first."""
    for place in places:
        for name in graph.nodes[place].inputs:
            if name in graph.tensors and not graph.tensors[name].is_constant:
                return graph.tensors[name].dtype.replace("uint8", "int8")
    return ""


def _bytes(places: tuple[int, ...], graph: SourceGraph, precision: str) -> tuple[int | None, int]:
    """All that a layer must read and write, each tensor once, and its weights alone, in what they are kept in."""
    made = {name for place in places for name in graph.nodes[place].outputs}
    read = dict.fromkeys(name for place in places for name in graph.nodes[place].inputs if name and name not in made)
    last = {name for name in made if name in graph.outputs or set(graph.readers.get(name, ())) - set(places)}
    fed = [name for name in read if name not in graph.constant]
    used = [*fed, *(last or made)]
    if not places or any(graph.tensors.get(name) is None or graph.tensors[name].shape is None for name in used):
        return None, 0
    heavy = any(graph.nodes[place].op in KINDS for place in places)
    kept = sum(_size(graph, name, precision, narrow=heavy) for name in read if name in graph.constant)
    return kept + sum(_size(graph, name, precision, narrow=heavy) for name in used), kept


def _size(graph: SourceGraph, name: str, precision: str, *, narrow: bool) -> int:
    """`narrow`: a float tensor that the layer keeps in fewer bits than the file states."""
    tensor = graph.tensors.get(name)
    if tensor is None or tensor.shape is None:
        return 0
    width = BYTES.get(tensor.dtype, 4)
    if narrow and tensor.dtype == "float32" and tensor.elements > 1:
        width = min(width, BYTES.get(precision, width))
    return tensor.elements * width


def _channels(places: tuple[int, ...], graph: SourceGraph) -> tuple[int, ...]:
    """Of the layer's weights, their sizes; empty without any."""
    for place in places:
        node = graph.nodes[place]
        if node.op in KINDS:
            shapes = [
                graph.tensors[name].shape for name in node.inputs if name in graph.constant and name in graph.tensors
            ]
            return next((shape for shape in shapes if shape and len(shape) > 1), ())
    return ()
