"""`python -m edgeward.measure.agentless`: one job as JSON on standard input, its result as JSON on standard output."""

import sys

import msgspec

from edgeward.kit.errors import EdgewardError
from edgeward.measure import bench, machine
from edgeward.measure.generations import run_generations
from edgeward.measure.jobs import (
    ConditionsRead,
    Describe,
    Described,
    ErrorTold,
    GenerationsJob,
    GenerationsRun,
    PlacedJob,
    PlacedResult,
    Raced,
    ReadConditions,
    ReadMemory,
    Solo,
    packed,
)
from edgeward.measure.place import HERE


def result_of(job: PlacedJob) -> PlacedResult:
    """What this machine answers to `job`."""
    if isinstance(job, Describe):
        return Described(machine.read_machine(with_peaks=job.with_peaks), HERE.facts)
    if isinstance(job, ReadConditions):
        return ConditionsRead(HERE.conditions())
    if isinstance(job, ReadMemory):
        return HERE.memory()
    if isinstance(job, Solo):
        return HERE.measure_alone(job.contender, seconds=job.seconds)
    if isinstance(job, GenerationsJob):
        return _generations(job)
    effort = {"min_rounds": 3, "max_rounds": 3, "warmup_rounds": 0, "runs": 1} if job.briefly else {}
    times = bench.race(job.contenders, seconds=job.seconds, seed=job.seed, generations=job.generations, **effort)
    return Raced(packed({str(place): value for place, value in enumerate(times)}))


def _generations(job: GenerationsJob) -> GenerationsRun:
    count, seconds = (1, 0.0) if job.briefly else (job.count, job.seconds)
    found = run_generations(job.contenders, count=count, seconds=seconds, seed=job.seed)
    times = packed({str(place): one.times_ms for place, one in enumerate(found)})
    return GenerationsRun(tuple(one.loaded for one in found), times)


def main() -> None:
    """One job; a fault of ours comes back as a sentence."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=PlacedJob)
    result: PlacedResult
    try:
        result = result_of(job)
    except EdgewardError as error:
        result = ErrorTold(kind=type(error).__name__, message=error.message, hint=error.hint)
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
