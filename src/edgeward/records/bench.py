"""What a benchmark adds to the plain numbers: how memory is split, what a scenario gave, how two models differ."""

from typing import Literal

from edgeward.records.base import Bytes, Count, Positive, Ratio, Record


class MemorySplit(Record):
    """The memory of the process that runs a model, once it has run: medians of fresh processes.

    `process_bytes` was there before (interpreter, runtime, inputs), `model_bytes` came with loading, `arena_bytes` with
    the first inferences. `counted_as` is "PSS", which shares pages among the processes that hold them, or "RSS".
    """

    process_bytes: Bytes
    model_bytes: Bytes
    arena_bytes: Bytes
    counted_as: Literal["PSS", "RSS"]


class Change(Record):
    """X against the base: `ratio` is X's metric over the base's, with its 95 % interval, over so many generations of
    fresh processes. A difference under 2 % is none."""

    metric: str
    ratio: Positive
    ratio_ci: tuple[Positive, Positive]
    verdict: Literal["no difference", "faster", "slower", "less", "more"]
    generations: Count


class Check(Record):
    """A condition of --fail-if. `change` is X against the base (0.05 is 5 % more), `bound` how much it is at least (for
    a fall: at most) with that confidence; `failed` when that is beyond `limit`."""

    condition: str
    change: float
    bound: float
    limit: float
    confidence: Ratio
    failed: bool
