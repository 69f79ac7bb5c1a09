"""Where a model has to run, what that machine can do, and what a model may cost there."""

from collections.abc import Mapping
from typing import Literal

from edgeward.records.base import Bytes, Document, Instant, Positive, Ratio, Record, Slug
from edgeward.records.reading import Reading

Arch = Literal["x86_64", "aarch64", "armv7l", "riscv64"]


class Accelerator(Document):
    """A compute unit besides the CPU. `kind` names the family, such as "hailo8" or "ethos-u65"."""

    kind: Slug
    memory_bytes: Bytes | None = None
    precisions: tuple[str, ...] = ()


class Target(Document):
    """A device profile: one kind of machine, not one machine (that is a Device).

    `runtimes` maps a runtime's name to the versions it may have, such as ">=1.20,<2".
    """

    name: Slug
    arch: Arch
    memory_bytes: Bytes
    storage_bytes: Bytes
    runtimes: Mapping[str, str]
    cpu: str = ""
    cpu_features: tuple[str, ...] = ()
    accelerators: tuple[Accelerator, ...] = ()
    power_limit_mw: Positive | None = None


class Budget(Document):
    """Limits a candidate must keep on the target. None means no limit.

    `energy_mj` is per inference. `quality_drop` is the largest loss of `quality_metric` against
    the baseline, as a difference of scores (for errors such as mse, the relative rise).
    """

    latency_p50_ms: Positive | None = None
    latency_p95_ms: Positive | None = None
    latency_p99_ms: Positive | None = None
    cold_start_ms: Positive | None = None
    throughput_min_per_s: Positive | None = None
    peak_memory_bytes: Bytes | None = None
    bundle_bytes: Bytes | None = None
    energy_mj: Positive | None = None
    quality_metric: str | None = None
    quality_drop: float | None = None


class AcceleratorFound(Record):
    """A compute unit seen on a machine. `usable` is false, with the reason, where no runtime reaches it."""

    kind: str
    name: str
    node: str | None
    driver: str | None
    usable: bool
    reason: str


class RuntimeFound(Record):
    """A runtime and whether it really ran: `works` means that a one-node model gave the right answer."""

    name: str
    version: str | None
    works: bool
    reason: str
    providers: tuple[str, ...] = ()


class Peaks(Record):
    """Measured roofs of this machine, on one thread and on all; medians of `runs`, with the setting."""

    threads: int
    fp32_gflops_one: Positive
    fp32_gflops_all: Positive
    int8_gops_one: Positive
    int8_gops_all: Positive
    memory_gb_per_s: Positive
    setting: str


class Machine(Record):
    """What one machine is and can do, as found at `seen_at`."""

    seen_at: Instant
    hostname: str
    board: str
    arch: str
    cpu: str
    cpu_count: int
    cpu_features: tuple[str, ...]
    memory_bytes: Bytes
    memory_available_bytes: Bytes
    storage_free_bytes: Bytes
    kernel: str
    os: str
    python: str
    virtualization: str | None
    governor: str | None
    load: float
    temperature_c: float | None
    accelerators: tuple[AcceleratorFound, ...]
    runtimes: tuple[RuntimeFound, ...]
    peaks: Peaks | None
    memory_pressure: Ratio | None = None
    readings: tuple[Reading, ...] = ()


class Finding(Record):
    """One check of the doctor: what was seen, and the command that mends it where it is wrong.

    `where` is the file, device or group that it is about; `wanted` and `got` stand apart where a program may compare.
    """

    check: Slug
    level: Literal["ok", "note", "warning", "problem"]
    message: str
    mend: str | None = None
    where: str | None = None
    wanted: str | None = None
    got: str | None = None
