"""What `edgeward trace` takes from the throughput of a process that it watches: many short slices, with it and without.

`python -m pytest bench/test_trace_overhead.py -s`, as root with bpftrace. A process runs resnet8 again and again and
counts. A pair is a slice with the recorder and one without, in an order that is drawn; each pair gives one ratio of
frames a second, and one of the processor's time a frame. The interval is a bootstrap's over the pairs.
"""

import mmap
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import NamedTuple

import numpy as np
import pytest

from edgeward.infer import markers
from edgeward.measure import bpftrace_run
from edgeward.measure.frame_ring import TOOK, FrameRing
from edgeward.measure.trace import Wish, looked_at_every, ordinary_every, print_from_ns

BESIDE = Path(__file__).resolve().parents[2] / "shared/data/mlperf-tiny"
MODEL = Path(os.environ.get("EDGEWARD_BENCH_MODELS", BESIDE)) / "resnet8-float.onnx"
PAIRS = int(os.environ.get("EDGEWARD_BENCH_PAIRS", "40"))
SLICE_S, SETTLE_S, POLL_S = 0.8, 0.2, 0.05
MOST = 0.02
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


class Slice(NamedTuple):
    """Frames a second, and nanoseconds of the processor for a frame."""

    rate: float
    cpu_ns: float


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


def look(words: memoryview, ring: FrameRing) -> Slice:
    """One slice; the frames are taken as `edgeward trace` takes them."""
    sleep(SETTLE_S)
    began, frames, cpu = monotonic(), words[0], words[1]
    while monotonic() - began < SLICE_S:
        sleep(POLL_S)
        ring.take()
    took, done = monotonic() - began, words[0] - frames
    return Slice(done / took, (words[1] - cpu) / done)


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """The median, and a bootstrap's 95 % interval of it."""
    generator, values = np.random.default_rng(0), np.array(ratios)
    drawn = np.median(generator.choice(values, (4000, len(values))), axis=1)
    return (float(np.median(values)), *map(float, np.quantile(drawn, (0.025, 0.975))))


@pytest.mark.timeout(900)
def test_throughput_with_the_recorder_and_without(tmp_path: Path) -> None:
    if not MODEL.is_file():
        pytest.skip(f"there is no {MODEL}")
    if (found := bpftrace_run.missing()) is not None:
        pytest.skip(f"{found.why}; try: {found.mend}")
    draw = random.Random(0)
    rates, costs, plain = list[float](), list[float](), list[Slice]()
    with running(tmp_path) as (pid, words), FrameRing(pid) as ring:
        ring.ask(markers.TIMES)
        sleep(1)
        times = ring.take()[:, TOOK]
        looked_at = looked_at_every(times, DEFAULTS)
        late_ns, every = print_from_ns(times, DEFAULTS), ordinary_every(times, DEFAULTS, looked_at)
        for _ in range(PAIRS):
            pair = dict[bool, Slice]()
            for traced in draw.sample((True, False), 2):
                with bpftrace_run.Bpftrace(pid, late_ns=late_ns, every=every) if traced else nullcontext():
                    ring.ask(markers.TIMES | markers.MARKS if traced else 0, looked_at)
                    pair[traced] = look(words, ring)
                ring.ask(0)
            rates.append(pair[True].rate / pair[False].rate)
            costs.append(pair[True].cpu_ns / pair[False].cpu_ns)
            plain.append(pair[False])
    usual_us = median(one.cpu_ns for one in plain) / 1e3
    lost, more = interval([1 - rate for rate in rates]), interval([cost - 1 for cost in costs])
    print("\n| a frame | looked at | pairs | throughput lost [95 %] | more of a CPU's time a frame [95 %] | the same |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {usual_us:.0f} µs | 1 of {looked_at} | {PAIRS} | {percent(lost)} | {percent(more)} "
        f"| {more[0] * usual_us:.2f} µs |"
    )
    assert more[0] < MOST


def percent(values: tuple[float, float, float]) -> str:
    middle, low, high = (100 * value for value in values)
    return f"{middle:.2f} % [{low:.2f}, {high:.2f}]"
