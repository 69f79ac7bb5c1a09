"""What a device's agent is told, and what it remembers."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from edgeward.records.base import Bytes, Count, Digest, Document, Instant, Positive, Record, Slug

Window = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")]
"""Hours of a day, by the device's own clock: "22:30-04:00"."""


class AgentSettings(Document, rename="kebab"):
    """/etc/edgeward/agent.toml. `source` is HOST/NAME:TAG, a folder, or a stick's, in which "*" stands for anything.
    The service `service` is `unit`; it does well while `ready` answers 200. In its self-test a bundle may take so many
    times the latency and memory that were measured on such a target; nothing is asked of what nobody measured."""

    service: Slug
    source: str
    keys: tuple[str, ...]
    unit: str | None = None
    ready: str | None = None
    python: str | None = None
    every_s: Positive = 3600.0
    windows: tuple[Window, ...] = ()
    limit_bytes_per_s: Positive | None = None
    quota_bytes: Bytes | None = None
    probation_s: Positive = 60.0
    start_limit_s: Positive = 300.0
    test_limit_s: Positive = 600.0
    most_times_slower: Positive = 3.0
    most_times_larger: Positive = 2.0
    targets: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    ca: str | None = None
    plain_http: bool = False


class Trial(Record):
    """A bundle that runs and has not proved itself yet; `before` ran until then."""

    digest: Digest
    before: Digest | None


class Proven(Record):
    """The newest bundle that proved itself on this device."""

    version: str
    created_at: Instant


class Noted(Record):
    """Something that the agent did, for a person."""

    at: Instant
    what: str


class Pinned(Record):
    """The variant that was chosen for this device from the index of several, when these had `failed` here."""

    index: Digest
    variant: Digest
    failed: tuple[Digest, ...] = ()


class AgentState(Record):
    """What survives a power cut. `failed` are digests that did not do here, and why."""

    trial: Trial | None = None
    newest: Proven | None = None
    failed: Mapping[Digest, str] = {}
    is_held: bool = False
    tries_in_vain: Count = 0
    checked_at: Instant | None = None
    trouble: str = ""
    noted: tuple[Noted, ...] = ()
    pinned: Pinned | None = None
