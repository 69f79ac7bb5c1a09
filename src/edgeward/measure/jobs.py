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


class Race(Struct, frozen=True, tag="race"):
    """Time contenders in turn until `seconds` have passed and `min_rounds` are done, `runs` per round each."""

    contenders: tuple[Contender, ...]
    seconds: float
    min_rounds: int
    max_rounds: int
    warmup_rounds: int
    runs: int
    seed: int


class SoloResult(Struct, frozen=True, tag="alone"):
    """Milliseconds in a fresh process, and its peak memory."""

    load_ms: float
    first_ms: float
    steady_ms: float
    peak_memory_bytes: int


class RaceResult(Struct, frozen=True, tag="raced"):
    """Per contender, rounds × runs, in milliseconds."""

    times_ms: list[list[list[float]]]


class ErrorTold(Struct, frozen=True, tag="error"):
    """An error of edgeward's family, by the name of its class."""

    kind: str
    message: str
    hint: str | None


Job = Solo | Race
Result = SoloResult | RaceResult | ErrorTold
