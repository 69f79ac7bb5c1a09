"""What `edgeward trace` takes from a process that it watches: many short slices with it and without.

`python -m pytest bench/test_trace_overhead.py -s`, as root with bpftrace. A process runs resnet8 again and again and
counts its frames and its CPU time. While the recorder is attached, slices in which frames are looked at and slices in
which none are take turns in a drawn order; each pair gives one ratio of the CPU time a frame, and the interval is a
bootstrap's over the pairs. What the programs on the scheduler's and other events take, which run in both, the kernel
counts itself (kernel.bpf_stats_enabled), its counting with it; told is their share of every CPU.
"""

import mmap
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import monotonic, sleep

import numpy as np
import pytest

from edgeward.infer import markers
from edgeward.measure import bpftrace_run
from edgeward.measure.frame_ring import TOOK, FrameRing
from edgeward.measure.trace import BURST_S, Wish, burst, bursts_of, ordinary_every, print_from_ns

BESIDE = Path(__file__).resolve().parents[2] / "shared/data/mlperf-tiny"
MODEL = Path(os.environ.get("EDGEWARD_BENCH_MODELS", BESIDE)) / "resnet8-float.onnx"
ROUNDS, PAIRS_IN_A_ROUND = 8, 20
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
MOST = 0.02
TRACEPOINTS = ("5", "7")
"""The kernel's numbers for programs on tracepoints and on software events; a uprobe's is 2."""
DEFAULTS = Wish(seconds=10.0, percentile=99.0, late_ms=None)

LOOP = """
import mmap, struct, sys, time
import numpy as np
from edgeward.infer import runtimes
from edgeward.infer.markers import framed
model, counted = sys.argv[1:]
session = runtimes.load("onnxruntime").load(open(model, "rb").read(), threads=1)
spec = session.inputs[0]
shape = [dim if isinstance(dim, int) else 1 for dim in spec.shape]
feeds = {spec.name: np.random.default_rng(0).uniform(0, 255, shape).astype(spec.dtype)}
with open(counted, "r+b") as file:
    words = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")
    print("ready", flush=True)
    while True:
        framed(session.run, feeds)
        words[0] += 1
        words[1] = time.thread_time_ns()
"""


@contextmanager
def running(folder: Path) -> Iterator[tuple[int, memoryview]]:
    """A process that runs the model, and its two counters."""
    counted = folder / "counted"
    counted.write_bytes(bytes(16))
    process = subprocess.Popen([sys.executable, "-c", LOOP, str(MODEL), str(counted)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with counted.open("r+b") as file:
            yield process.pid, memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")
    finally:
        process.kill()
        process.wait()


@contextmanager
def counted_by_the_kernel() -> Iterator[None]:
    """The kernel takes the time of each program while this lasts."""
    before = STATS.read_text()
    STATS.write_text("1")
    try:
        yield
    finally:
        STATS.write_text(before)


def programs_ns(pid: int) -> int:
    """What the programs of a bpftrace took so far, but for those at the marks (the kernel tells of their kind)."""
    told = [(info.read_text()) for info in Path(f"/proc/{pid}/fdinfo").iterdir()]
    found = [dict(re.findall(r"^(\w+):\s+(\d+)$", text, re.MULTILINE)) for text in told]
    return sum(int(one["run_time_ns"]) for one in found if one.get("prog_type") in TRACEPOINTS)


def cost_of_a_frame(words: memoryview, ring: FrameRing, bursts: int, *, is_asked: bool) -> float:
    """One slice: nanoseconds of the CPU. Frames are asked for and taken as `edgeward trace` does it."""
    frames, cpu = words[0], words[1]
    if is_asked:
        burst(ring, bursts)
    else:
        sleep(BURST_S * bursts)
    ring.take()
    return float((words[1] - cpu) / max(1, words[0] - frames))


def interval(values: list[float]) -> tuple[float, float, float]:
    """The median, and a bootstrap's 95 % interval of it."""
    generator, found = np.random.default_rng(0), np.array(values)
    drawn = np.median(generator.choice(found, (4000, len(found))), axis=1)
    return (float(np.median(found)), *map(float, np.quantile(drawn, (0.025, 0.975))))


@pytest.mark.timeout(300)
def test_what_the_recorder_takes(tmp_path: Path) -> None:
    if not MODEL.is_file():
        pytest.skip(f"there is no {MODEL}")
    if (found := bpftrace_run.missing()) is not None:
        pytest.skip(f"{found.why}; try: {found.mend}")
    draw, more, plain, events = random.Random(0), list[float](), list[float](), list[float]()
    with running(tmp_path) as (pid, words), FrameRing(pid) as ring, counted_by_the_kernel():
        ring.ask(markers.TIMES)
        sleep(1)
        frames = ring.take()
        ring.ask(0)
        bursts, times = bursts_of(frames, DEFAULTS), frames[:, TOOK]
        late_ns, every = print_from_ns(times, DEFAULTS), ordinary_every(times, DEFAULTS, bursts)
        for _ in range(ROUNDS):
            with bpftrace_run.Bpftrace(pid, late_ns=late_ns, every=every) as recorder:
                began, before = monotonic(), programs_ns(recorder.pid)
                for _ in range(PAIRS_IN_A_ROUND):
                    pair = dict[bool, float]()
                    for is_asked in draw.sample((True, False), 2):
                        pair[is_asked] = cost_of_a_frame(words, ring, bursts, is_asked=is_asked)
                    if not all(pair.values()):
                        continue  # somebody else had the CPU all through a slice
                    more.append(pair[True] / pair[False] - 1)
                    plain.append(pair[False])
                events.append(
                    (programs_ns(recorder.pid) - before) / 1e9 / (monotonic() - began) / (os.cpu_count() or 1)
                )
    print("\n| a frame | looked at | pairs | more CPU time a frame [95 %] | events, of every CPU [95 %] | both |")
    print("|---|---|---|---|---|---|")
    marks, beside = interval(more), interval(events)
    both = marks[0] + beside[0]
    print(
        f"| {median(plain) / 1e3:.0f} µs | 1 of {bursts} | {len(more)} | {percent(marks)} | {percent(beside)} "
        f"| {100 * both:.2f} % |"
    )
    assert both < MOST


def percent(values: tuple[float, float, float]) -> str:
    middle, low, high = (100 * value for value in values)
    return f"{middle:.2f} % [{low:.2f}, {high:.2f}]"
