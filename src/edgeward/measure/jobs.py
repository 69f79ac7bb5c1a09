"""What a measuring process is asked, and what it answers: messages of kit.process, in MessagePack."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgeward.measure.conditions import Conditions
from edgeward.records.model import TensorSpec
from edgeward.records.target import Machine


class Contender(Struct, frozen=True):
    """A model file, the runtime that runs it, and an .npz of input tensors (samples on the first axis)."""

    file: str
    runtime: str
    threads: int
    feeds: str


class Solo(Struct, frozen=True, tag="solo"):
    """Measure one contender alone, its steady part for `seconds`."""

    contender: Contender
    seconds: float


class Stable(Struct, frozen=True, tag="stable"):
    """Load these contenders, then time the one that each further message (a Turn) names."""

    contenders: tuple[Contender, ...]


class Fresh(Struct, frozen=True, tag="fresh"):
    """Get ready for this contender; at the next message load it, then time it for each further one (a Turn)."""

    contender: Contender


class Load(Struct, frozen=True, tag="load"):
    """Load this contender, then put it under the load that each further message (a Drive) names."""

    contender: Contender


class Drive(Struct, frozen=True):
    """Queries of `runs` runs on `batch` samples each: one after the other for `seconds` and at least so many, or, with
    a rate, at the moments of a Poisson process; such a run ends early when far too many took longer than the bound."""

    seconds: float
    seed: int
    least_queries: int = 1
    runs: int = 1
    batch: int = 1
    rate_per_s: float = 0.0
    bound_ms: float = 0.0


class Open(Struct, frozen=True, tag="open"):
    """Load a model, then run it on the inputs that each further message (Tensors, or Each) brings. A further
    message may be Alone, or Open again."""

    file: str
    runtime: str
    threads: int


class Alone(Struct, frozen=True, tag="steady"):
    """Measure the model that was loaded and not run yet, its steady part for `seconds` and at least so many runs, on an
    .npz of inputs."""

    feeds: str
    seconds: float
    least_runs: int = 3


class Account(Struct, frozen=True, tag="account"):
    """What the model that was loaded computes in, by its runtime's own account, for which some take it once more."""


class Accounted(Struct, frozen=True, tag="accounted"):
    arithmetic: str | None


class Tensor(Struct, frozen=True):
    """An array in C order; of strings, as `texts`."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes = b""
    texts: tuple[str, ...] = ()


class Tensors(Struct, frozen=True, tag="tensors"):
    """Arrays with their names."""

    names: tuple[str, ...]
    values: tuple[Tensor, ...]


class Each(Struct, frozen=True, tag="each"):
    """The inputs of several inferences, to be run one after the other; or what they gave, in the same order."""

    values: tuple[Tensors, ...]


class Turn(Struct, frozen=True):
    """A few untimed runs of a contender on one of its samples (counted round), then `runs` timed ones."""

    contender: int
    sample: int
    runs: int
    untimed: int = 3


class SoloResult(Struct, frozen=True, tag="alone"):
    """Milliseconds in a fresh process, and its peak memory."""

    load_ms: float
    first_ms: float
    steady_ms: float
    peak_memory_bytes: int


class Ready(Struct, frozen=True, tag="ready"):
    """The contenders are loaded."""


class Loaded(Struct, frozen=True, tag="loaded"):
    """A contender is loaded in a process of its own: milliseconds, and bytes of memory.

    `process_bytes` is what the process took before, `model_bytes` what loading added, `arena_bytes` what the first
    inferences did; `peak_bytes` is the most that was resident. `kind` is how the first three were counted. `read_ms` is
    what taking the model's bytes apart costs, None where the runtime does not tell that from the rest of loading.
    """

    load_ms: float
    first_ms: float
    process_bytes: int
    model_bytes: int
    arena_bytes: int
    peak_bytes: int
    kind: str
    read_ms: float | None = None


class Opened(Struct, frozen=True, tag="opened"):
    """The model is loaded; these are its inputs and outputs, and, where the runtime says so, which nodes run where."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    placement: str | None = None


class Timed(Struct, frozen=True, tag="timed"):
    """The runs of one turn, in nanoseconds."""

    times_ns: tuple[int, ...]


class Driven(Struct, frozen=True, tag="driven"):
    """The latency of each query in milliseconds, as "ms", and how long it took in all."""

    latencies: Tensors
    seconds: float


class ErrorTold(Struct, frozen=True, tag="error"):
    """An error of edgeward's family, by the name of its class."""

    kind: str
    message: str
    hint: str | None


class Facts(Struct, frozen=True, tag="facts"):
    """What a number hangs on. `name`, `arch` and `cpu_features` are of the machine that the candidates are for, the
    rest is of the one that measures; the two differ where only a profile of the first is at hand."""

    name: str
    arch: str
    cpu_features: tuple[str, ...]
    hostname: str
    cpu: str
    cpu_count: int
    kernel: str


class Describe(Struct, frozen=True, tag="describe"):
    """Say what the machine is and which runtimes really run on it; with peaks, its measured speed too."""

    with_peaks: bool = False


class Described(Struct, frozen=True, tag="described"):
    """The machine, and what of it numbers hang on."""

    machine: Machine
    facts: Facts


class ReadConditions(Struct, frozen=True, tag="read-conditions"):
    """Say what the conditions are now."""


class ConditionsRead(Struct, frozen=True, tag="conditions"):
    """The conditions of that moment."""

    conditions: Conditions


class ReadMemory(Struct, frozen=True, tag="read-memory"):
    """Say how much memory there is to measure with."""


class MemoryRead(Struct, frozen=True, tag="memory"):
    """What is free of it now, and what the last cache before it holds (0: the machine does not say)."""

    available_bytes: int
    last_level_bytes: int


class RaceJob(Struct, frozen=True, tag="race"):
    """Time the contenders in turn, for `seconds`, in so many generations of processes; briefly: a few times, for the
    sake of the answer's form alone."""

    contenders: tuple[Contender, ...]
    seconds: float
    seed: int
    briefly: bool = False
    generations: int = 3


class Raced(Struct, frozen=True, tag="raced"):
    """Milliseconds, rounds × runs, one array for each contender in their order."""

    times_ms: Tensors


class GenerationsJob(Struct, frozen=True, tag="generations"):
    """Time the contenders in `count` generations of fresh processes, each for `seconds`; briefly as above."""

    contenders: tuple[Contender, ...]
    count: int
    seconds: float
    seed: int
    briefly: bool = False


class GenerationsRun(Struct, frozen=True, tag="generations-run"):
    """By generation: what loading each contender cost, and its times as contenders × rounds × runs."""

    loaded: tuple[tuple[Loaded, ...], ...]
    times_ms: Tensors


PlacedJob = Describe | ReadConditions | ReadMemory | Solo | RaceJob | GenerationsJob
PlacedResult = Described | ConditionsRead | MemoryRead | SoloResult | Raced | GenerationsRun | ErrorTold
"""What a place is asked as a whole, and what it answers; JSON when the place is another machine."""

Job = Solo | Stable | Fresh | Load | Open
Result = SoloResult | Ready | Loaded | Timed | Driven | Opened | Accounted | Tensors | Each | ErrorTold


def encode(message: Job | Result | Turn | Drive | Alone | Account) -> bytes:
    return msgspec.msgpack.encode(message)


def decode(message: bytes, kind: Any) -> Any:
    return msgspec.msgpack.decode(message, type=kind)


def packed(arrays: Mapping[str, NDArray[Any]]) -> Tensors:
    """Arrays as a message."""
    return Tensors(tuple(arrays), tuple(_tensor(value) for value in arrays.values()))


def unpacked(message: Tensors) -> dict[str, NDArray[Any]]:
    """The arrays of a message; they can be written to."""
    return {name: _array(value) for name, value in zip(message.names, message.values, strict=True)}


def _tensor(value: NDArray[Any]) -> Tensor:
    if value.dtype.kind in "OUS":
        return Tensor("object", value.shape, texts=tuple(str(text) for text in value.ravel()))
    return Tensor(value.dtype.str, value.shape, value.tobytes())


def _array(tensor: Tensor) -> NDArray[Any]:
    if tensor.dtype == "object":
        return np.array(tensor.texts, object).reshape(tensor.shape)
    return np.frombuffer(bytearray(tensor.data), tensor.dtype).reshape(tensor.shape)
