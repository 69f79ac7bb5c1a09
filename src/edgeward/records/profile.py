"""Where a model's time goes, where its operators ran, and how far that is from what the machine can do."""

from collections.abc import Mapping
from typing import Literal

from edgeward.records.base import Bytes, Count, Instant, Positive, Record
from edgeward.records.candidate import Setting

Bound = Literal["compute", "memory", "unknown"]
Level = Literal["cache", "last-level cache", "memory"]


class Bandwidth(Record):
    """What a kernel that only moves numbers reaches, read and written together, over so many bytes."""

    level: Level
    up_to_bytes: Bytes
    gb_per_s: Positive


class Roofs(Record):
    """Limits that were measured here with the runtime's own kernels, on as many threads as the model.

    `gops_per_s` is by precision; a multiplication with its addition counts as two. `call_ms` is a kernel that does
    next to nothing. `last_level_bytes` is 0 where the machine does not tell how large its caches are.
    """

    runtime: str
    threads: Count
    gops_per_s: Mapping[str, Positive]
    bandwidths: tuple[Bandwidth, ...]
    call_ms: float
    last_level_bytes: Bytes
    setting: str


class ProfiledLayer(Record):
    """One kernel of a run, with the operators of the model in it.

    `share` is of a whole run without the profiler; `cumulative` adds up the shares of this layer and of those that
    take longer. `limit_ms` is the least it could take by the measured roofs, None where its work is not known.
    """

    name: str
    op: str
    place: Count
    nodes: tuple[str, ...]
    shape: str
    time_ms: float
    share: float
    cumulative: float
    device: str
    precision: str
    kernel: str
    macs: Count | None
    operations: Count | None
    moved_bytes: Bytes | None
    gops_per_s: float | None
    gb_per_s: float | None
    limit_ms: float | None
    share_of_limit: float | None
    bound: Bound
    loss: str = ""


class PlacedNode(Record):
    """One operator of the model. "fused" ran as a part of `layer`; "folded" was computed once at load; "removed" costs
    nothing."""

    name: str
    op: str
    fate: Literal["ran", "fused", "folded", "removed"]
    device: str
    layer: str


class Loss(Record):
    """Time beyond the limit that has one reason, and what could be done. `beside`: it is counted in others too, or is
    within the limit."""

    kind: str
    title: str
    time_ms: float
    share: float
    layers: tuple[str, ...]
    advice: str
    beside: bool = False


class Requirement(Record):
    """What `--require` asked, and what was found."""

    asked: str
    wanted: float
    found: float
    met: bool
    of: Literal["time", "macs", "nodes"]
    missing: tuple[str, ...]


class ModelProfile(Record):
    """One model's profile. `time_ms` is a whole run without the profiler: the mean of the faster half, as are the
    layers' times; `between_ms` is what it takes besides its layers, below zero where the profiler slows them more.
    """

    model: str
    digest: str
    target: str
    setting: Setting
    taken_at: Instant
    time_ms: Positive
    p50_ms: Positive
    runs: Count
    profiled_ms: Positive | None
    layers_ms: float
    between_ms: float
    layers: tuple[ProfiledLayer, ...]
    nodes: tuple[PlacedNode, ...]
    devices: Mapping[str, float]
    roofs: Roofs
    limit_ms: float
    share_of_limit: float
    losses: tuple[Loss, ...]
    requirements: tuple[Requirement, ...] = ()
    remarks: tuple[str, ...] = ()
    command: str = ""
    edgeward_version: str = ""
