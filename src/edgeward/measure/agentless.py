"""`python -m edgeward.measure.agentless`: one job as JSON on standard input, its result as JSON on standard output."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgeward.kit.errors import EdgewardError
from edgeward.measure.jobs import Answered, ErrorTold, PlacedJob, Raced, RaceJob, Solo, SoloResult, packed
from edgeward.measure.place import HERE


def result_of(job: PlacedJob) -> SoloResult | Raced | Answered:
    """What this machine answers to `job`."""
    if isinstance(job, Solo):
        return HERE.measure_alone(job.contender, seconds=job.seconds)
    if isinstance(job, RaceJob):
        times = HERE.race(job.contenders, seconds=job.seconds, seed=job.seed)
        return Raced(packed(dict(_numbered(times))))
    return Answered(tuple(packed(dict(_numbered(outputs))) for outputs in HERE.answers(job.contender)))


def _numbered(outputs: Sequence[NDArray[Any]]) -> Iterator[tuple[str, NDArray[Any]]]:
    return ((str(place), value) for place, value in enumerate(outputs))


def main() -> None:
    """One job; a fault of ours comes back as a sentence."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=PlacedJob)
    result: SoloResult | Raced | Answered | ErrorTold
    try:
        result = result_of(job)
    except EdgewardError as error:
        result = ErrorTold(kind=type(error).__name__, message=error.message, hint=error.hint)
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
