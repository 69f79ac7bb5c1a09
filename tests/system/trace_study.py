"""One run of an inference, disturbed or not, under `edgeward trace`: used by the test and by the benchmark."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from edgeward.measure.bpftrace_run import Missing
from edgeward.measure.frame_ring import FrameRing
from edgeward.measure.trace import Trace, Wish, trace

PARTS = Path(__file__).with_name("trace_parts.py")
WEIGHTS_BYTES = 32 << 20


class Case(NamedTuple):
    """What the inference does, whether it runs before others' work, who disturbs it, and what is to be blamed."""

    kind: str
    protected: str
    disturber: str | None
    cause: str | None
    runner: str | None = None


CASES = {
    "busy neighbour": Case("plain", "no", "busy_neighbour", "cpu", "busy-neighbour"),
    "real-time neighbour": Case("plain", "yes", "real_time_neighbour", "cpu", "rt-neighbour"),
    "pages taken away": Case("mapped", "yes", "memory_thief", "memory"),
    "writer with fsync": Case("reading", "yes", "writer", "disk"),
    "undisturbed": Case("plain", "yes", None, None),
}


@contextmanager
def _part(name: str, seed: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(PARTS), name, str(seed), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def study(case: Case, seed: int, folder: Path, *, seconds: float = 2.0, missing: Missing | None = None) -> Trace:
    """What trace says of this case."""
    file = folder / "weights"
    if not file.exists():
        file.write_bytes(random.Random(seed).randbytes(WEIGHTS_BYTES))
        os.sync()
    cpu = str(max(os.sched_getaffinity(0)))
    with ExitStack() as stack:
        inference = stack.enter_context(_part("inference", seed, case.kind, str(file), cpu, case.protected))
        word = inference.stdout.readline().strip()
        arguments = {
            "busy_neighbour": (cpu,), "real_time_neighbour": (cpu,), "memory_thief": (str(inference.pid), word),
            "writer": (str(folder / "written"),),
        }  # fmt: skip
        if case.disturber is not None:
            stack.enter_context(_part(case.disturber, seed, *arguments[case.disturber]))
        with FrameRing(inference.pid) as ring:
            return trace(ring, Wish(seconds, 95, None, rounds=1), missing, lambda text, done: None)


def is_right(case: Case, found: Trace) -> bool:
    """Whether the blame is the one that the case was made for."""
    if found.blame.cause != case.cause:
        return False
    return case.runner is None or (found.blame.because is not None and found.blame.because.name == case.runner)
