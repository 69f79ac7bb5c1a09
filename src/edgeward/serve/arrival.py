"""A sample on its way into a pipeline, and what the model wants of it."""

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from edgeward.infer import Sample
from edgeward.infer.preprocess import takes_missing
from edgeward.records.bundle import Manifest
from edgeward.records.model import SampleKind, TensorSpec


class Wanted(Struct, frozen=True):
    """What the model takes: raw samples of this kind. `name` is the bundle's, for sentences. Where values may be
    `missing`, NaN stands for them."""

    name: str
    kind: SampleKind
    inputs: tuple[TensorSpec, ...]
    sample_rate_hz: int | None = None
    missing: bool = False

    @classmethod
    def of(cls, manifest: Manifest) -> "Wanted":
        missing = takes_missing((*manifest.preprocess, *manifest.folded))
        return cls(manifest.name, manifest.kind, manifest.inputs, manifest.sample_rate_hz, missing)

    @property
    def channels(self) -> int:
        """Of an image; 3 where the bundle leaves that free."""
        last = self.inputs[0].shape[-1]
        return last if isinstance(last, int) else 3


class Arrival(NamedTuple):
    """A sample on its way. `read` decodes it, once, where it is wanted: one that a queue drops costs nothing. It
    raises WrongInput, which names the source, for a sample that cannot be read or is no sample for this model.

    `captured_s` is when it came into being by the monotonic clock (None where nobody can say, as for files).
    """

    source: str
    read: Callable[[], Sample]
    captured_s: float | None = None


def broken(source: str, error: Exception, captured_s: float | None = None) -> Arrival:
    """One that fails when it is read: the fault is told and counted as that sample's."""

    def read() -> Sample:
        raise error

    return Arrival(source, read, captured_s)
