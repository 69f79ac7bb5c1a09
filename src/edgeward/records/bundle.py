"""What is shipped: a manifest, its layers, and the proof of who made it."""

from collections.abc import Mapping
from typing import Literal

from msgspec import UNSET, UnsetType

from edgeward.records.base import Bytes, Descriptor, Digest, Instant, Positive, Record, Slug
from edgeward.records.candidate import Measurement
from edgeward.records.flow import Flow
from edgeward.records.model import Model, Postprocess, Preprocess, SampleKind, TensorSpec

SCHEMA_VERSION = 1
"""The bundle format this code writes; it reads this one and every older one."""


class SelfTest(Record):
    """Inputs with known outputs; the device runs them before the bundle goes live.

    Both descriptors name `.npz` bytes with one array per input or output, samples on the first axis.
    An answer passes when |got - expected| <= tolerance × (1 + max |expected|), element by element. `tolerances` are
    those of targets whose kernels round otherwise; on any other machine it is `tolerance`.
    """

    inputs: Descriptor
    expected: Descriptor
    tolerance: Positive
    deadline_s: Positive
    tolerances: Mapping[Slug, Positive] | UnsetType = UNSET

    def tolerance_on(self, target: str) -> float:
        """What an answer may be off by on a machine of this target."""
        return self.tolerance if self.tolerances is UNSET else self.tolerances.get(target, self.tolerance)


class Manifest(Record):
    """What a bundle is and needs: enough to refuse it before fetching the model.

    It is the bundle's first layer; the OCI config is the ModelPack config, whose schema admits nothing of
    ours. `inputs` are the raw sample's tensors without a batch axis, before `preprocess`; `folded` are the
    steps that moved into the graph and must not be run again. `measurement` is of the target that it was made for,
    `measurements` of others, one each. `license` is an SPDX expression.
    """

    schema_version: int
    name: Slug
    version: str
    created_at: Instant
    targets: tuple[Slug, ...]
    runtime: Slug
    runtime_versions: str
    model: Model
    kind: SampleKind
    inputs: tuple[TensorSpec, ...]
    preprocess: Preprocess
    folded: Preprocess
    postprocess: Postprocess
    labels: tuple[str, ...]
    thread_count: int
    self_test: SelfTest
    measurement: Measurement | None
    layers: tuple[Descriptor, ...]
    sample_rate_hz: int | None = None
    # Not written where nothing is said: bundles stay, byte for byte, what they were.
    flow: Flow | UnsetType = UNSET
    license: str | UnsetType = UNSET
    measurements: tuple[Measurement, ...] | UnsetType = UNSET

    def measured(self) -> tuple[Measurement, ...]:
        """Every measurement, one for each target."""
        first = () if self.measurement is None else (self.measurement,)
        return first if self.measurements is UNSET else (*first, *self.measurements)

    def measured_on(self, target: str) -> Measurement | None:
        """How it did on a machine of this target; None where nobody measured."""
        return next((one for one in self.measured() if one.target == target), None)


class Layer(Record):
    """One file of a bundle as its OCI manifest lists it."""

    path: str
    media_type: str
    digest: Digest
    size_bytes: Bytes


class Signature(Record):
    """Who signed: the key's fingerprint (SHA-256 of its DER SubjectPublicKeyInfo) and when it was checked."""

    key: Digest
    format: Literal["sigstore-bundle-v0.3"]


class Bundle(Record):
    """A published manifest. `reference` names the place it was read from; `digest` is what is signed."""

    reference: str
    digest: Digest
    manifest: Manifest
    signatures: tuple[Signature, ...]
