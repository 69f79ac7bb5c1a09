"""A pipeline as a person declares it: where samples come from, which bundle answers them, where answers go."""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, UnsetType

from edgeward.records.base import Document, Positive, Ratio, Slug
from edgeward.records.flow import BatchSize, Flow, Policy, QueueSize
from edgeward.records.stream import StreamSteps

Part = Mapping[str, Any]
"""A source or sink: `use` names the member, the other keys are that member's own options."""


class QueueOptions(Document):
    """How many samples may wait for the model, and what happens when one more comes. Of a live source, what is older
    than `max_age_ms` is not answered, and no sink is given an answer that has become older."""

    size: QueueSize | None = None
    policy: Policy | None = None
    max_age_ms: Positive | None = None


class Batching(Document):
    """Up to `size` samples run together; none of them waits longer than `deadline_ms` for the others."""

    size: BatchSize
    deadline_ms: Positive


class Cascade(Document):
    """A second bundle, which answers for the crop of each box that the first one found.

    `labels` are the boxes it looks at (none: all), `margin` is added on each side as a share of the box, and only
    the `most` best boxes of an image are looked at.
    """

    bundle: str
    labels: tuple[str, ...] = ()
    margin: Ratio = 0.0
    most: Annotated[int, Meta(ge=1, le=100)] = 16


class Pipeline(Document):
    """One `[[pipeline]]` table. `skip_unchanged` leaves out a sample that differs from the last answered one by less
    than this share of its range; `follow` is what is made of the answers one after another; `keys` are the public keys
    that are trusted, as with --key."""

    name: Slug
    bundle: str
    source: Part
    sinks: tuple[Part, ...] = ()
    queue: QueueOptions = QueueOptions()
    batch: Batching | None = None
    skip_unchanged: Ratio | None = None
    cascade: Cascade | None = None
    follow: StreamSteps = ()
    threads: Annotated[int, Meta(ge=1, le=1024)] | None = None
    keys: tuple[str, ...] = ()


def flowing(
    said: Pipeline | None, packed: Flow | UnsetType | None
) -> tuple[QueueOptions, Batching | None, float | None]:
    """Queue, batching and the threshold of unchanged samples: what the pipeline says beats what the bundle says."""
    packed = packed if isinstance(packed, Flow) else Flow()
    queue = said.queue if said else QueueOptions()
    batch = said.batch if said else None
    if batch is None and packed.batch_size is not None:
        batch = Batching(size=packed.batch_size, deadline_ms=packed.batch_deadline_ms)
    threshold = said.skip_unchanged if said else None
    return (
        QueueOptions(
            size=queue.size or packed.queue_size,
            policy=queue.policy or packed.queue_policy,
            max_age_ms=queue.max_age_ms,
        ),
        batch,
        packed.skip_unchanged if threshold is None else threshold,
    )
