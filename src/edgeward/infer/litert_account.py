"""LiteRT's account of a whole model: what its profiler tells of the operators that XNNPACK took, and of the others.

Where this LiteRT's profiler cannot be reached, each operator is timed alone instead, and the account says so.
"""

from typing import Any

import numpy as np

from edgeward.infer import litert_profile, litert_session
from edgeward.infer.account import Account, Accountant, Kernel
from edgeward.infer.litert_library import DELEGATED, OPERATOR, CompiledModel, Event
from edgeward.infer.litert_profile import operator_names
from edgeward.infer.litert_session import no_room_for_tiles, nothing
from edgeward.infer.node_times import NodeTime, undisturbed
from edgeward.infer.silence import silence
from edgeward.infer.tensors import Tensors
from edgeward.kit.errors import Unsupported

_HALF_TICK_MS = 0.0005
"""Its times are whole microseconds, rounded down."""
_LAYOUT = ("TRANSPOSE", "Transpose", "Copy")
_ALONE = "each operator timed alone: this LiteRT's profiler cannot be reached"
_XNNPACK = {
    "CONV_2D": ("Convolution", "Fully Connected"), "DEPTHWISE_CONV_2D": ("Convolution",),
    "TRANSPOSE_CONV": ("Deconvolution",),
    "FULLY_CONNECTED": ("Fully Connected",), "BATCH_MATMUL": ("Batch Matrix", "Fully Connected"), "ADD": ("Add",),
    "SUB": ("Subtract",), "MUL": ("Multiply",), "DIV": ("Divide",), "MAX_POOL_2D": ("Max Pooling",),
    "AVERAGE_POOL_2D": ("Average Pooling", "Global Average"), "MEAN": ("Global Average", "Mean", "Reduce"),
    "SUM": ("Sum", "Reduce"), "SOFTMAX": ("Softmax",), "RESHAPE": ("Static Reshape", "Copy"), "PAD": ("Constant Pad",),
    "CONCATENATION": ("Concatenate", "Copy"), "LOGISTIC": ("Sigmoid",), "TANH": ("Tanh",), "RELU": ("Clamp",),
    "HARD_SWISH": ("HardSwish",), "RELU6": ("Clamp",), "QUANTIZE": ("Convert",), "DEQUANTIZE": ("Convert",),
    "TRANSPOSE": ("Transpose",), "RESIZE_BILINEAR": ("Resize",), "LEAKY_RELU": ("Leaky",), "PRELU": ("PReLU",),
    "ELU": ("ELU",), "MAXIMUM": ("Maximum",), "MINIMUM": ("Minimum",),
}  # fmt: skip
"""The words with which XNNPACK's names for an operator begin."""


class LiteRtAccount:
    """A compiled model beside the interpreter's, which says what goes in."""

    def __init__(self, model: bytes, threads: int, *, tiles: bool) -> None:
        self._session = litert_session.load(model, threads=threads, tiles=tiles)
        self.inputs = self._session.inputs
        self._model = model
        with silence(), nothing() if tiles or not litert_session.cpu_has_tiles() else no_room_for_tiles():
            self._compiled = CompiledModel(model, threads)
        self.took_ms = self._compiled.took_ms
        self._fed: Tensors | None = None
        self._runs: list[list[Event]] = []

    def run(self, feeds: Tensors) -> None:
        if self._fed is not feeds:
            self._compiled.feed({spec.name: feeds[spec.name] for spec in self.inputs})
            self._fed = feeds
        told = [event for event in self._compiled.run() if event.kind in (OPERATOR, DELEGATED)]
        if not self._runs and not told:
            raise Unsupported("this LiteRT's profiler tells nothing of this model")
        self._runs.append(told)

    def account(self) -> Account:
        names = operator_names(self._model)
        first = self._runs[-1]
        alike = [run for run in self._runs if [event.tag for event in run] == [event.tag for event in first]]
        places = _places(first, [kind for _, kind in names])
        kernels = []
        for number, (event, place) in enumerate(zip(first, places, strict=True)):
            taken = [run[number].elapsed_us / 1000 for run in alike]
            device = "XNNPACK" if event.kind == DELEGATED else "CPU"
            name, kind = names[place] if place is not None else (event.tag, event.tag)
            time = NodeTime(name, kind, device, undisturbed(taken) + _HALF_TICK_MS, kind.startswith(_LAYOUT))
            kernels.append(Kernel(time, device, "", event.tag, () if place is None else (str(place),)))
        return Account(tuple(kernels))


def _places(events: list[Event], kinds: list[str]) -> list[int | None]:
    """For each event the operator of the file that it belongs to. The interpreter's events tell it. XNNPACK keeps the
    order of operators; what it adds behind one (a Clamp for an activation) counts to that one."""
    taken = {event.place for event in events if event.kind == OPERATOR}
    left = [place for place in range(len(kinds)) if place not in taken]
    inside = [event for event in events if event.kind == DELEGATED]
    pairs = iter(_aligned([event.tag for event in inside], [kinds[place] for place in left]))
    found: list[int | None] = []
    last: int | None = None
    for event in events:
        if event.kind == OPERATOR:
            found.append(event.place if event.place < len(kinds) else None)
            continue
        at = next(pairs)
        last = last if at is None else left[at]
        found.append(last)
    return found


def _aligned(tags: list[str], kinds: list[str]) -> list[int | None]:
    """For each of XNNPACK's names the operator that it fits, in order, so that as many as possible have one."""
    fits = [[tag.startswith(_XNNPACK.get(kind, ("\0",))) for kind in kinds] for tag in tags]
    best = [[0] * (len(kinds) + 1) for _ in range(len(tags) + 1)]
    for row in reversed(range(len(tags))):
        for column in reversed(range(len(kinds))):
            skipped = max(best[row + 1][column], best[row][column + 1])
            best[row][column] = max(skipped, 1 + best[row + 1][column + 1] if fits[row][column] else 0)
    found: list[int | None] = [None] * len(tags)
    row = column = 0
    while row < len(tags) and column < len(kinds):
        if fits[row][column] and best[row][column] == 1 + best[row + 1][column + 1]:
            found[row] = column
            row, column = row + 1, column + 1
        elif best[row][column] == best[row][column + 1]:
            column += 1
        else:
            row += 1
    return found


class _Alone:
    """The account of operators that were timed alone."""

    def __init__(self, model: bytes, threads: int, *, tiles: bool) -> None:
        self._model = model
        self._profile = litert_profile.profile(model, threads=threads, tiles=tiles)
        self.inputs = self._profile.inputs
        self.run = self._profile.run
        self.took_ms: list[float] = []

    def account(self) -> Account:
        names = operator_names(self._model)
        places: dict[tuple[str, str], list[int]] = {}
        for place, named in enumerate(names):
            places.setdefault(named, []).append(place)
        kernels = []
        for time in self._profile.node_times():
            found = places.get((time.name, time.kernel), [])
            sources = (str(found.pop(0)),) if found else ()
            kernels.append(Kernel(time, "XNNPACK", "", "", sources))
        return Account(tuple(kernels), remark=_ALONE)


def account(model: bytes, *, threads: int, tiles: bool) -> Accountant:
    """By LiteRT's own profiler where it can be reached. Raises what litert_session.load raises."""
    try:
        found = LiteRtAccount(model, threads, tiles=tiles)
        found.run({spec.name: _ones(spec) for spec in found.inputs})
    except Unsupported:
        litert_session.load(model, threads=threads, tiles=tiles)  # what it cannot run is told as such
        return _Alone(model, threads, tiles=tiles)
    return found


def _ones(spec: Any) -> Any:
    shape = tuple(dim if isinstance(dim, int) and dim > 0 else 1 for dim in spec.shape)
    return np.ones(shape, spec.dtype)
