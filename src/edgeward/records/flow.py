"""How samples had better reach a model: what its maker says in the bundle, and a pipeline may say otherwise."""

from typing import Annotated, Literal

from msgspec import Meta

from edgeward.records.base import Positive, Ratio, Record

Policy = Literal["latest", "all"]
"""What a full queue does: give up its oldest sample for the newest one, or let the source wait."""

QueueSize = Annotated[int, Meta(ge=1, le=4096)]
BatchSize = Annotated[int, Meta(ge=2, le=1024)]


class Flow(Record):
    """A `[flow]` table beside the steps. Answers are the same without it: a reader that does not know it loses nothing
    but pace. `skip_unchanged` is as in a pipeline."""

    queue_size: QueueSize | None = None
    queue_policy: Policy | None = None
    batch_size: BatchSize | None = None
    batch_deadline_ms: Positive = 20.0
    skip_unchanged: Ratio | None = None
