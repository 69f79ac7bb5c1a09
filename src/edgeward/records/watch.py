"""What a machine and its services do at one moment: a line of `edgeward top --json`."""

from typing import Literal

from edgeward.records.base import Bytes, Count, Instant, Ratio, Record


class ThreadSeen(Record):
    """A thread; `cpu` is the share of one CPU that it used, `core` where it ran last."""

    id: int
    name: str
    cpu: float | None = None
    core: int | None = None


class ModelSeen(Record):
    """A model that is served. Rates are of this interval; percentiles of its latest answers, 1024 at most.

    `queued` requests wait for the one that runs; `dropped` ones were told to come back later, and are among `errors`.
    `decision` is what a governor decided last, where the service has one.
    """

    name: str
    version: str
    runtime: str | None = None
    threads: int | None = None
    placement: str | None = None
    requests: Count | None = None
    errors: Count | None = None
    dropped: Count | None = None
    in_flight: Count | None = None
    queued: Count | None = None
    rate_per_s: float | None = None
    errors_per_s: float | None = None
    dropped_per_s: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    decision: str | None = None


class ServiceSeen(Record):
    """A service of this machine, or one that was named by its URL.

    "silent" does not answer and says why in `reason`; "stopped" and "died" were there, `gone_for_s` ago.
    `cpu` counts CPUs: 1.5 is one and a half of them.
    """

    url: str
    state: Literal["ready", "stopping", "silent", "stopped", "died"]
    pid: int | None = None
    reason: str = ""
    version: str | None = None
    uptime_s: float | None = None
    cpu: float | None = None
    memory_bytes: Bytes | None = None
    memory_kind: Literal["PSS", "RSS"] | None = None
    threads: tuple[ThreadSeen, ...] = ()
    models: tuple[ModelSeen, ...] = ()
    gone_for_s: float | None = None


class Waits(Record):
    """The share of the last ten seconds in which some task waited for it."""

    cpu: Ratio | None = None
    memory: Ratio | None = None
    io: Ratio | None = None


class MachineSeen(Record):
    """The machine around the services. What it does not tell is absent."""

    hostname: str
    cpu_count: Count
    memory_bytes: Bytes
    memory_used_bytes: Bytes
    cpu_busy: Ratio | None = None
    cpus: tuple[Ratio, ...] = ()
    load: float | None = None
    waits: Waits = Waits()
    frequency_mhz: float | None = None
    governor: str | None = None
    throttled: bool = False
    temperature_c: float | None = None
    power_mw: float | None = None
    virtualization: str | None = None
    kernel: str | None = None


class Frame(Record):
    """One look at all of it, and over how long the rates are; 0 where there was no earlier look."""

    at: Instant
    interval_s: float
    machine: MachineSeen
    services: tuple[ServiceSeen, ...] = ()
