"""Why a model takes longer than the limit: each layer's time beyond it has one reason, and each reason an advice."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgeward.measure.profiling.layers import Work
from edgeward.measure.profiling.limits_of_layers import Limit
from edgeward.records.profile import Loss, Roofs

_TINY_CALLS = 2
"""A layer of so many empty calls or fewer is one whose call counts."""
_VECTOR = 16
"""Channels that a vector of 512 bits holds in float32; those of other CPUs are 8 or 4 wide, which divide it."""
_FILLED = 0.5
"""From this share of its limit on, a layer is near enough to it that no reason is looked for."""


class Facts(NamedTuple):
    """What else is known: the time between the layers, what all CPUs gain, what held the clock back."""

    whole_ms: float
    between_ms: float
    threads: int
    cpus: int
    all_threads_ms: float | None = None
    governor: str | None = None
    throttled: bool = False
    main_device: str = "CPU"


_TEXTS: Mapping[str, tuple[str, str]] = {
    "layout": (
        "changes of layout",
        "The tensor is turned for the kernels beside it. Feed the model in the layout that it computes in (channels "
        "last or first), fix the batch dimension, or let the input's Transpose be folded: edgeward optimize does both.",
    ),
    "conversion": (
        "rounding and undoing it, outside of kernels",
        "These QuantizeLinear, DequantizeLinear or Cast operators were not joined with a neighbour. Quantise what "
        "stands between them too, or leave the layers around them in float: edgeward optimize tries both.",
    ),
    "fallback": (
        "operators that the accelerating back-end did not take",
        "Replace them by operators that it has, or move them to the end or the beginning of the graph, so that the "
        "tensor changes sides once; --require gates it.",
    ),
    "call": (
        "calls of tiny layers",
        "A layer costs at least its call. Join them: fold scales into the convolution before, take out Identity and "
        "Reshape, use fewer and wider layers.",
    ),
    "depthwise": (
        "depthwise convolutions, one filter for each channel",
        "They multiply little for each byte that they read, and fill no tile. Fewer channels before them, or plain "
        "convolutions of fewer channels, may be faster at the same accuracy: edgeward distill tries smaller networks.",
    ),
    "shape": (
        "channels that do not fill the vector or tile",
        f"Sizes that are no multiple of {_VECTOR} are padded, and what is padded is thrown away. Widths that are "
        "multiples cost the same and learn more: edgeward prune keeps to them.",
    ),
    "small": (
        "layers too small to reach the peak",
        "Too few multiplications for each call to fill the caches and the pipeline as the micro-benchmark does. A "
        "larger batch, where latency allows it, or fewer and larger layers.",
    ),
    "memory": (
        "layers that wait for memory, near its limit",
        "They move more than they multiply. Fewer bits (int8 moves a quarter of float32), layers joined with their "
        "neighbours, or smaller activations.",
    ),
    "unknown": (
        "layers whose work is not known",
        "Their shapes hang on values, or the operator is not one that is counted: they have no limit to compare with.",
    ),
    "between": (
        "between the layers",
        "The call itself: checking and copying inputs and outputs, planning memory, waking threads. It counts for "
        "small models; a batch of samples shares it.",
    ),
}  # fmt: skip


def reason_of(work: Work, limit: Limit | None, roofs: Roofs, main_device: str) -> str:
    """Why this layer takes longer than its limit; empty where it is near it."""
    if work.is_layout:
        return "layout"
    if work.is_conversion:
        return "conversion"
    if work.device != main_device:
        return "fallback"
    if limit is None:
        return "unknown" if work.time_ms > _TINY_CALLS * roofs.call_ms else "call"
    if limit.time_ms >= _FILLED * work.time_ms:
        return "memory" if limit.bound == "memory" else ""
    if work.time_ms <= _TINY_CALLS * roofs.call_ms:
        return "call"
    if work.is_depthwise:
        return "depthwise"
    if work.channels and any(size % _VECTOR for size in _filled(work)):
        return "shape"
    return "small"


def _filled(work: Work) -> tuple[int, ...]:
    """The sizes of the weights that lie along vectors: channels in and out, whichever way round the format has them."""
    sizes = work.channels
    return (sizes[0], sizes[1] if len(sizes) < 4 or sizes[1] > sizes[-1] else sizes[-1])


def losses(
    works: Sequence[Work], limits: Sequence[Limit | None], reasons: Sequence[str], facts: Facts
) -> tuple[Loss, ...]:
    """Those with most time first. Of changes of layout and conversions all time counts, since it need not be; of layers
    that wait for memory what their multiplications do not need, which the limit allows for."""
    lost: dict[str, list[tuple[float, str]]] = {}
    for work, limit, reason in zip(works, limits, reasons, strict=True):
        beyond = work.time_ms - _needed_ms(reason, limit)
        if reason and beyond > 0:
            lost.setdefault(reason, []).append((beyond, work.name))
    if facts.between_ms > 0:
        lost["between"] = [(facts.between_ms, "")]
    found = [_loss(kind, items, facts.whole_ms) for kind, items in lost.items()]
    found += _threads(facts)
    return tuple(sorted(found, key=lambda loss: -loss.time_ms))


def _needed_ms(reason: str, limit: Limit | None) -> float:
    """What would be left of a layer: its multiplications where it waits for memory, nothing where it need not be."""
    if limit is None or reason in ("layout", "conversion", "unknown"):
        return 0.0
    return limit.compute_ms if reason == "memory" else limit.time_ms


def _loss(kind: str, items: list[tuple[float, str]], whole_ms: float) -> Loss:
    title, advice = _TEXTS[kind]
    time_ms = sum(time for time, _ in items)
    return Loss(
        kind=kind, title=title, time_ms=time_ms, share=time_ms / whole_ms,
        layers=tuple(name for _, name in sorted(items, reverse=True) if name), advice=advice, beside=kind == "memory",
    )  # fmt: skip


def _threads(facts: Facts) -> list[Loss]:
    """What more threads were measured to save."""
    if facts.all_threads_ms is None or facts.all_threads_ms >= facts.whole_ms:
        return []
    saved = facts.whole_ms - facts.all_threads_ms
    return [
        Loss(
            kind="threads", title=f"{facts.threads} thread{'s' if facts.threads > 1 else ''} of {facts.cpus} CPUs",
            time_ms=saved, share=saved / facts.whole_ms, layers=(), beside=True,
            advice=f"The same model took {facts.all_threads_ms:.4g} ms on {facts.cpus} threads here: --threads "
            f"{facts.cpus}, where nothing else needs these CPUs.",
        )
    ]  # fmt: skip


def clock_remarks(facts: Facts) -> tuple[str, ...]:
    """What held the clock back; its time cannot be told apart from the layers'."""
    said = []
    if facts.throttled:
        said.append("the CPU was throttled (heat or power) during the profile: cool it, or see edgeward doctor")
    if facts.governor and facts.governor not in ("performance", "schedutil"):
        said.append(
            f"the CPU governor is {facts.governor}: the clock may have been low (cpupower frequency-set -g performance)"
        )
    return tuple(said)
