"""The measured roofs of this machine: what CPU and memory give to the runtime's own kernels, in about three seconds.

The products are `rows` × 1024 by 1024 × 1024 in ONNX Runtime; `rows` grows until one run takes a few milliseconds,
so that a small board and a server are both measured above the cost of a call.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import runtimes
from edgeward.infer.runtimes import Session
from edgeward.measure import sysfs
from edgeward.records.target import Peaks

MODELS = Path(__file__).parent / "peak_models"
SIDE = 1024
FEWEST_RUNS = 5

_RUN_S = 0.008
_MOST_ROWS = 2048
_FIGURE_S = 0.35
_SMALLEST_COPY_BYTES = 64 << 20
_LARGEST_COPY_BYTES = 1 << 30


class Int8Kernel(NamedTuple):
    """A sign convention of ONNX Runtime's int8 kernels: activations × weights."""

    model: str
    dtype: str


KERNELS = (Int8Kernel("u8s8", "uint8"), Int8Kernel("s8s8", "int8"))


def measure_peaks(threads: int) -> Peaks:
    """Medians on one thread and on `threads`. Other work on the machine lowers them."""
    kernel = fastest_int8_kernel()
    copied = copy_bytes(sysfs.ROOT)
    fp32 = [product_rate("fp32", "float32", count) for count in (1, threads)]
    int8 = [product_rate(*kernel, count) for count in (1, threads)]
    version = runtimes.load("onnxruntime").version()
    return Peaks(
        threads=threads,
        fp32_gflops_one=fp32[0],
        fp32_gflops_all=fp32[1],
        int8_gops_one=int8[0],
        int8_gops_all=int8[1],
        memory_gb_per_s=copy_rate(copied, threads),
        setting=f"ONNX Runtime {version}: MatMul, QLinearMatMul {kernel.model}, ×{SIDE}×{SIDE}; "
        f"numpy copy over {copied >> 20} MiB, read and write counted; medians of {FEWEST_RUNS} runs or more",
    )


def fastest_int8_kernel() -> Int8Kernel:
    """The sign convention that this CPU's kernels prefer, by trying each once or twice."""
    return min(KERNELS, key=lambda kernel: _best_of_three(_product(kernel.model, kernel.dtype, threads=1, rows=64)))


def product_rate(model: str, dtype: str, threads: int) -> float:
    """Multiplications and additions per second of one of our models, in units of 10⁹."""
    rows = 64
    took = _best_of_three(_product(model, dtype, threads, rows))
    rows = int(min(_MOST_ROWS, max(rows, rows * _RUN_S / took)))
    return 2e-9 * rows * SIDE * SIDE / _median_s(_product(model, dtype, threads, rows))


def copy_rate(total_bytes: int, threads: int) -> float:
    """GB/s read plus written by `threads` threads that copy one half of `total_bytes` to the other."""
    half = max(threads, total_bytes // 16)
    source, sink = np.ones(half, np.float64), np.zeros(half, np.float64)
    parts = list(zip(np.array_split(sink, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        # numpy lets go of the interpreter while it copies, so these run side by side.
        seconds = _median_s(lambda: list(pool.map(lambda pair: np.copyto(*pair), parts)))
    return 2e-9 * source.nbytes / seconds


def copy_bytes(root: Path) -> int:
    """The memory to copy over: beyond the last-level cache, within a quarter of what is free, 1 GiB at most."""
    available = sysfs.kibibytes(sysfs.fields(root / "proc/meminfo").get("MemAvailable"))
    wanted = max(_SMALLEST_COPY_BYTES, 2 * last_level_cache_bytes(root))
    return max(1 << 20, min(wanted, available // 4, _LARGEST_COPY_BYTES))


def last_level_cache_bytes(root: Path) -> int:
    """The largest cache that CPU 0 names; 0 where the kernel names none, as on many boards."""
    sizes = [
        sysfs.text(index / "size") for index in sysfs.entries(root / "sys/devices/system/cpu/cpu0/cache", "index*")
    ]
    return max((int(size[:-1]) << 10 for size in sizes if size and size[:-1].isdigit() and size[-1] == "K"), default=0)


def _product(model: str, dtype: str, threads: int, rows: int) -> Callable[[], object]:
    session = load_product(model, threads)
    feeds = {"x": operand(dtype, rows)}
    return lambda: session.run(feeds)


def load_product(model: str, threads: int) -> Session:
    return runtimes.load("onnxruntime").load((MODELS / f"{model}.onnx").read_bytes(), threads=threads)


def operand(dtype: str, rows: int) -> NDArray[Any]:
    """The left side of a product: whole numbers 0..126, the same for every dtype."""
    return np.random.default_rng(0).integers(0, 127, (rows, SIDE)).astype(dtype)


def _best_of_three(work: Callable[[], object]) -> float:
    return min(_seconds(work) for _ in range(3))


def _median_s(work: Callable[[], object]) -> float:
    """Runs `work` for about a third of a second, five times at least, after one run to warm up."""
    work()
    end = perf_counter() + _FIGURE_S
    taken = [_seconds(work) for _ in range(FEWEST_RUNS)]
    while perf_counter() < end:
        taken.append(_seconds(work))
    return median(taken)


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return max(1e-9, perf_counter() - start)
