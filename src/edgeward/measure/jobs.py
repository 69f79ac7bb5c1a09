"""What a measuring process is asked, and what it answers."""

from msgspec import Struct


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
    """Load these contenders, then time the one that each further line (a Turn) names."""

    contenders: tuple[Contender, ...]


class Turn(Struct, frozen=True):
    """One untimed run of a contender on one of its samples (counted round), then `runs` timed ones."""

    contender: int
    sample: int
    runs: int


class SoloResult(Struct, frozen=True, tag="alone"):
    """Milliseconds in a fresh process, and its peak memory."""

    load_ms: float
    first_ms: float
    steady_ms: float
    peak_memory_bytes: int


class Ready(Struct, frozen=True, tag="ready"):
    """The contenders are loaded."""


class Timed(Struct, frozen=True, tag="timed"):
    """The runs of one turn, in nanoseconds."""

    times_ns: tuple[int, ...]


class ErrorTold(Struct, frozen=True, tag="error"):
    """An error of edgeward's family, by the name of its class."""

    kind: str
    message: str
    hint: str | None


Job = Solo | Stable
Result = SoloResult | Ready | Timed | ErrorTold
