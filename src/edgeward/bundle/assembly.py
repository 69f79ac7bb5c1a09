"""A model and all that belongs to it → an unsigned bundle in an OCI image layout (CNCF ModelPack)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeward.bundle import layout as oci
from edgeward.bundle.contents import MANIFEST_PATH, read_contents
from edgeward.bundle.layout import DOC_TYPE
from edgeward.bundle.npz import to_npz
from edgeward.infer.postprocess import class_count
from edgeward.kit import codec
from edgeward.kit.errors import WrongInput
from edgeward.records.base import Descriptor, Record
from edgeward.records.bundle import SCHEMA_VERSION, Manifest, SelfTest
from edgeward.records.candidate import Measurement
from edgeward.records.flow import Flow
from edgeward.records.model import Classify, Model, Postprocess, Preprocess, SampleKind, TensorSpec

CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
WEIGHT_TYPE = "application/vnd.cncf.model.weight.v1.raw"
WEIGHT_CONFIG_TYPE = "application/vnd.cncf.model.weight.config.v1.raw"
DATASET_TYPE = "application/vnd.cncf.model.dataset.v1.raw"
REPORT_PATH = "report.json"

# What the ModelPack schema admits as `precision`; anything else is left out of its config.
_PRECISIONS = frozenset({
    "float64", "float32", "float16", "bfloat16", "float8_e4m3", "float8_e5m2", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool", "complex32", "complex64", "complex128",
})  # fmt: skip


class Parts(Record):
    """What goes into a bundle. Names as in the Manifest; `model.files` is filled in by `assemble`.

    `self_test_inputs` has one array per raw input with samples on the first axis, `self_test_expected` what
    `expected_outputs` gives for them. `report` is report.json's bytes.
    """

    name: str
    version: str
    created_at: datetime
    model: Model
    model_bytes: bytes
    runtime: str
    runtime_versions: str
    kind: SampleKind
    inputs: tuple[TensorSpec, ...]
    self_test_inputs: Mapping[str, NDArray[Any]]
    self_test_expected: Mapping[str, NDArray[Any]]
    precision: str = ""
    targets: tuple[str, ...] = ()
    preprocess: Preprocess = ()
    folded: Preprocess = ()
    postprocess: Postprocess = ()
    labels: tuple[str, ...] = ()
    thread_count: int = 1
    sample_rate_hz: int | None = None
    tolerance: float = 1e-3
    deadline_s: float = 30.0
    measurement: Measurement | None = None
    report: bytes | None = None
    flow: Flow | None = None
    license: str | None = None


class Said(Record):
    """What is said anew of a bundle that stands already; None, or nothing, keeps what it says.

    `tolerances` and `measurements` are of targets; the ones given come in the place of those of the same target.
    """

    name: str | None = None
    version: str | None = None
    labels: tuple[str, ...] | None = None
    license: str | None = None
    tolerances: Mapping[str, float] = {}
    measurements: tuple[Measurement, ...] = ()
    report: bytes | None = None


def assemble(folder: Path, parts: Parts) -> str:
    """Writes the bundle into the existing empty `folder` and returns its digest. Equal parts give equal digests.

    Raises WrongInput for a self-test that no device could pass.
    """
    _check_self_test(parts)
    layout = oci.create(folder)
    weight = _put(layout, parts.model_bytes, WEIGHT_TYPE, f"model.{parts.model.format}")
    inputs = _put(layout, to_npz(parts.self_test_inputs), DATASET_TYPE, "selftest/inputs.npz")
    expected = _put(layout, to_npz(parts.self_test_expected), DATASET_TYPE, "selftest/expected.npz")
    docs = () if parts.report is None else (_put(layout, parts.report, DOC_TYPE, REPORT_PATH),)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=parts.name,
        version=parts.version,
        created_at=parts.created_at,
        targets=parts.targets,
        runtime=parts.runtime,
        runtime_versions=parts.runtime_versions,
        model=replace(parts.model, files=(_record(weight),)),
        kind=parts.kind,
        inputs=parts.inputs,
        preprocess=parts.preprocess,
        folded=parts.folded,
        postprocess=parts.postprocess,
        labels=parts.labels,
        thread_count=parts.thread_count,
        self_test=SelfTest(
            inputs=_record(inputs),
            expected=_record(expected),
            tolerance=parts.tolerance,
            deadline_s=parts.deadline_s,
        ),
        measurement=parts.measurement,
        layers=tuple(_record(layer) for layer in (weight, inputs, expected, *docs)),
        sample_rate_hz=parts.sample_rate_hz,
        flow=UNSET if parts.flow is None else parts.flow,
        license=UNSET if parts.license is None else parts.license,
    )
    return _publish(layout, manifest, (weight, inputs, expected, *docs), parts.precision)


def reassemble(source: Path, folder: Path, created_at: datetime, said: Said) -> str:
    """Writes the bundle in `source` anew into the empty `folder`, unsigned, with what is `said` replaced.

    Signatures of `source` are neither needed nor kept; every byte of it is checked against its digest. Raises
    WrongInput where the measurements are of another model.
    """
    contents = read_contents(oci.Layout(source))
    layout = oci.create(folder)
    layers = [
        layout.put(contents.layout.read(layer, path), layer.media_type, layer.annotations)
        for path, layer in contents.files.items()
        if path != MANIFEST_PATH and (said.report is None or path != REPORT_PATH)
    ]
    if said.report is not None:
        layers.append(_put(layout, said.report, DOC_TYPE, REPORT_PATH))
    old = contents.manifest
    _check_label_count(said.labels, old)
    manifest = replace(
        old,
        schema_version=SCHEMA_VERSION,
        name=said.name or old.name,
        version=said.version or old.version,
        labels=old.labels if said.labels is None else said.labels,
        postprocess=old.postprocess or (() if said.labels is None else (Classify(),)),
        created_at=created_at,
        layers=tuple(_record(layer) for layer in layers),
        license=said.license or old.license,
        self_test=_tolerating(old.self_test, said.tolerances),
        **_measured(old, said.measurements),
    )
    return _publish(layout, manifest, tuple(layers), contents.config.config.precision or "")


def _publish(layout: oci.Layout, manifest: Manifest, files: tuple[oci.OciDescriptor, ...], precision: str) -> str:
    """Writes our manifest, the ModelPack config, the OCI manifest and the index that lists it."""
    first = _put(layout, codec.to_canonical_json(manifest), WEIGHT_CONFIG_TYPE, MANIFEST_PATH)
    layers = (first, *files)
    config = layout.put(codec.to_canonical_json(_config(manifest, layers, precision)), CONFIG_TYPE)
    document = oci.OciManifest(
        schema_version=2,
        media_type=oci.MANIFEST_TYPE,
        artifact_type=oci.MODEL_TYPE,
        config=config,
        layers=layers,
        annotations=_annotations(manifest),
    )
    stored = layout.put(codec.to_canonical_json(document), oci.MANIFEST_TYPE)
    entry = replace(
        stored,
        artifact_type=oci.MODEL_TYPE,
        annotations={"org.opencontainers.image.ref.name": manifest.version},
    )
    layout.write_index(oci.OciIndex(schema_version=2, media_type=oci.INDEX_TYPE, manifests=(entry,)))
    return stored.digest


def _tolerating(test: SelfTest, tolerances: Mapping[str, float]) -> SelfTest:
    known = {} if test.tolerances is UNSET else dict(test.tolerances)
    together = {**known, **tolerances}
    return replace(test, tolerances=together) if together else test


def _measured(old: Manifest, new: Sequence[Measurement]) -> dict[str, Any]:
    """The manifest's measurements, one for a target; the first is of the target that the bundle was made for."""
    for one in new:
        if one.model != old.model.files[0].digest:
            raise WrongInput(
                f"the measurement on {one.target} is of the model {one.model}, wanted {old.model.files[0].digest}"
            )
    found = {one.target: one for one in (*old.measured(), *new)}
    if not found:
        return {}
    first, *others = found.values()
    return {"measurement": first, "measurements": tuple(others) or UNSET}


def _annotations(manifest: Manifest) -> dict[str, str]:
    """What a registry shows, and what a device reads before it fetches anything else."""
    licenses = {} if manifest.license is UNSET else {"org.opencontainers.image.licenses": manifest.license}
    return {
        **licenses,
        "org.opencontainers.image.created": _rfc3339(manifest.created_at),
        "org.opencontainers.image.title": manifest.name,
        "org.opencontainers.image.version": manifest.version,
        "io.edgeward.schema-version": str(manifest.schema_version),
        "io.edgeward.runtime": manifest.runtime,
        "io.edgeward.runtime-versions": manifest.runtime_versions,
        "io.edgeward.targets": ",".join(manifest.targets),
    }


def _config(manifest: Manifest, layers: tuple[oci.OciDescriptor, ...], precision: str) -> dict[str, Any]:
    """The ModelPack config. Its schema forbids every property that is not its own."""
    about: dict[str, Any] = {"format": manifest.model.format, "paramSize": _param_size(manifest.model.parameter_count)}
    if precision in _PRECISIONS:
        about["precision"] = precision
    about["capabilities"] = {"inputTypes": [manifest.kind if manifest.kind in ("image", "audio") else "other"]}
    licenses = {} if manifest.license is UNSET else {"licenses": [manifest.license]}
    return {
        "descriptor": {
            "name": manifest.name,
            "version": manifest.version,
            "createdAt": _rfc3339(manifest.created_at),
            **licenses,
        },
        "config": about,
        "modelfs": {"type": "layers", "diffIds": [layer.digest for layer in layers]},
    }


def _check_label_count(labels: tuple[str, ...] | None, old: Manifest) -> None:
    classes = class_count(old.postprocess, old.model.outputs)
    if labels is not None and classes is not None and classes != len(labels):
        raise WrongInput(f"there are {len(labels)} labels; the model has {classes} classes")


def _put(layout: oci.Layout, data: bytes, media_type: str, path: str) -> oci.OciDescriptor:
    return layout.put(data, media_type, {oci.FILE_PATH: path, "org.opencontainers.image.title": path})


def _record(layer: oci.OciDescriptor) -> Descriptor:
    return Descriptor(media_type=layer.media_type, digest=layer.digest, size_bytes=layer.size)


def _check_self_test(parts: Parts) -> None:
    for what, arrays in (("inputs", parts.self_test_inputs), ("expected outputs", parts.self_test_expected)):
        if not arrays or any(array.ndim == 0 or len(array) == 0 for array in arrays.values()):
            raise WrongInput(f"the self-test's {what} hold no sample")
    lengths = {len(array) for array in (*parts.self_test_inputs.values(), *parts.self_test_expected.values())}
    if len(lengths) != 1:
        raise WrongInput(f"the self-test's arrays differ in their number of samples: {sorted(lengths)}")
    for name, array in parts.self_test_expected.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise WrongInput(
                f"on the self-test's inputs the model's output {name!r} is not finite (NaN or infinity)",
                hint="give real samples with --data",
            )


def _param_size(count: int) -> str:
    """ "6.7M": at most one decimal, and always a letter, as ModelPack wants it."""
    for letter, unit in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if count >= unit:
            return f"{count / unit:.1f}{letter}"
    return f"{count / 1e3:.1f}K"


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
