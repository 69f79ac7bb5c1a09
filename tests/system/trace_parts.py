"""An inference process and those who disturb it, each a process of its own: `python trace_parts.py PART SEED ARGS`.

Every part ends by itself after LIMIT_S, and with its parent. Those that would take a CPU whole rest in between.
"""

import contextlib
import ctypes
import mmap
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

LIMIT_S = 30
PERIOD_S = 0.008
FILE_BYTES, MAPPED_BYTES = 32 << 20, 4 << 20
_MADV_PAGEOUT = 21
_PROCESS_MADVISE = 440


class _Span(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _call(seed: int, name: str) -> random.Random:
    """Named as `name`, ends with its parent."""
    libc = ctypes.CDLL(None)
    libc.prctl(1, 9)
    libc.prctl(15, name.encode())
    return random.Random(seed)


def _real_time(priority: int) -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def _before_others() -> None:
    """As a session of its own with a weight that leaves others than the neighbour, who has the same, hardly a share."""
    os.setsid()
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("-19")
    os.nice(-19)


def _busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def inference(seed: int, kind: str, path: str, cpu: str, protected: str) -> None:
    """Frames of a little arithmetic, one every 8 ms; "mapped" reads pages of a mapped file too, as of large weights,
    "reading" a part of the file past the page cache, as of a recording. Protected: before others' work."""
    import numpy as np

    from edgeward.infer.markers import Frame

    draw = _call(seed, "inference")
    os.sched_setaffinity(0, {int(cpu)})
    if protected == "yes":
        _real_time(5)
    else:
        _before_others()
    table = np.random.default_rng(seed).standard_normal((96, 96)).astype(np.float32)
    file = os.open(path, os.O_RDONLY | (os.O_DIRECT if kind == "reading" else 0))
    weights = mmap.mmap(file, MAPPED_BYTES, prot=mmap.PROT_READ)
    buffer = mmap.mmap(-1, 64 << 10)
    if kind == "mapped":
        weights.madvise(mmap.MADV_RANDOM)
        sum(weights[place] for place in range(0, MAPPED_BYTES, mmap.PAGESIZE))
        print(_address(path), flush=True)
    else:
        print("ready", flush=True)
    rounds = 200 if kind == "plain" else 20
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        began = time.perf_counter()
        with Frame():
            for _ in range(rounds):
                table @ table
            if kind == "mapped":
                sum(weights[draw.randrange(MAPPED_BYTES)] for _ in range(40))
            elif kind == "reading":
                os.preadv(file, [buffer], draw.randrange(FILE_BYTES // len(buffer)) * len(buffer))
        time.sleep(max(0.001, PERIOD_S - (time.perf_counter() - began)))


def _address(path: str) -> str:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next(line.split("-")[0] for line in lines if line.endswith(path))


def busy_neighbour(seed: int, cpu: str) -> None:
    """Computes on the CPU of the inference, most of the time."""
    draw = _call(seed, "busy-neighbour")
    os.sched_setaffinity(0, {int(cpu)})
    _before_others()
    _repeat(lambda: (_busy(draw.uniform(0.02, 0.08)), time.sleep(draw.uniform(0.02, 0.06))))


def real_time_neighbour(seed: int, cpu: str) -> None:
    """A real-time thread that wants the CPU for some milliseconds now and then."""
    draw = _call(seed, "rt-neighbour")
    os.sched_setaffinity(0, {int(cpu)})
    _real_time(20)
    _repeat(lambda: (_busy(draw.uniform(0.003, 0.008)), time.sleep(draw.uniform(0.02, 0.04))))


def memory_thief(seed: int, pid: str, address: str) -> None:
    """Has the kernel take the mapped pages of the inference away, as it does when memory runs short."""
    draw = _call(seed, "memory-thief")
    descriptor = os.pidfd_open(int(pid))
    span = _Span(int(address, 16), MAPPED_BYTES)
    syscall = ctypes.CDLL(None, use_errno=True).syscall

    def steal() -> None:
        if syscall(_PROCESS_MADVISE, descriptor, ctypes.byref(span), 1, _MADV_PAGEOUT, 0) < 0:
            raise OSError(ctypes.get_errno(), "process_madvise")
        time.sleep(draw.uniform(0.2, 0.4))

    _repeat(steal)


def writer(seed: int, path: str) -> None:
    """Writes and has it put on the disk at once, in bursts."""
    draw = _call(seed, "disk-writer")
    block = draw.randbytes(1 << 20)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def burst() -> None:
        os.lseek(file, 0, os.SEEK_SET)
        for _ in range(24):
            os.write(file, block)
        os.fsync(file)
        time.sleep(draw.uniform(0.05, 0.2))

    _repeat(burst)


def _repeat(work: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        work()


PARTS = {part.__name__: part for part in (inference, busy_neighbour, real_time_neighbour, memory_thief, writer)}

if __name__ == "__main__":
    PARTS[sys.argv[1]](int(sys.argv[2]), *sys.argv[3:])
