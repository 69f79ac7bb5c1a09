"""What a bundle is made of, as a CycloneDX 1.6 bill of materials with a model card (ECMA-424, "ML-BOM").

A rule over a bundle's own words: who holds the bundle can make it anew and compare.
"""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import UNSET

from edgeward import __version__
from edgeward.records.bundle import Manifest
from edgeward.records.candidate import Measurement, Report
from edgeward.records.model import Anomaly, Classify, Dataset, Detect, Keypoints, Segment

PREDICATE_TYPE: Final = "https://cyclonedx.org/bom"
_SPACE = uuid.UUID("b8a4a0f2-9d3e-5a43-9d2f-0f5a7b1c6f10")  # ours, of serial numbers
_TASKS = {
    Classify: "classification", Detect: "object-detection", Segment: "image-segmentation",
    Keypoints: "keypoint-detection", Anomaly: "anomaly-detection",
}  # fmt: skip


def bill_of_materials(digest: str, manifest: Manifest, report: Report | None) -> dict[str, Any]:
    """The bill of the bundle whose OCI manifest has this `digest`; `report` says what it was made of."""
    parts = [_runtime(manifest), *_files(manifest), *(_made_of(report) if report else ())]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": moment(manifest.created_at),
            "tools": {"components": [{"type": "application", "name": "edgeward", "version": __version__}]},
            "component": _model(manifest, report),
        },
        "components": parts,
        "dependencies": [{"ref": "model", "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def moment(at: datetime) -> str:
    """RFC 3339, in UTC, to the second."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def hex_of(digest: str) -> str:
    """A digest without its "sha256:"."""
    return digest.removeprefix("sha256:")


def _model(manifest: Manifest, report: Report | None) -> dict[str, Any]:
    licenses = {} if manifest.license is UNSET else {"licenses": [{"expression": manifest.license}]}
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": manifest.name,
        "version": manifest.version,
        "hashes": _hashes(manifest.model.files[0].digest),
        **licenses,
        "modelCard": _card(manifest, report),
        "properties": [
            {"name": "io.edgeward:format", "value": manifest.model.format},
            {"name": "io.edgeward:parameters", "value": str(manifest.model.parameter_count)},
            {"name": "io.edgeward:targets", "value": ",".join(manifest.targets) or "any"},
        ],
    }


def _card(manifest: Manifest, report: Report | None) -> dict[str, Any]:
    outputs = [f"{spec.dtype} {list(spec.shape)}" for spec in manifest.model.outputs]
    parameters: dict[str, Any] = {
        "inputs": [{"format": manifest.kind}],
        "outputs": [{"format": form} for form in outputs],
    }
    tasks = [_TASKS[type(step)] for step in manifest.postprocess if type(step) in _TASKS]
    if tasks:
        parameters["task"] = tasks[0]
    if report is not None:
        parameters["datasets"] = [{"ref": _ref(one)} for one in _datasets(report)]
    metrics = [metric for measured in manifest.measured() for metric in _metrics(measured)]
    return {"modelParameters": parameters, "quantitativeAnalysis": {"performanceMetrics": metrics}}


def _metrics(measured: Measurement) -> Iterator[dict[str, str]]:
    """Its quality, latency (p50 of single inferences, ms) and memory (peak of the process, bytes) on one target."""
    figures = {**measured.quality, "latency_p50_ms": measured.latency.p50_ms}
    for name, value in (*figures.items(), ("peak_memory_bytes", measured.peak_memory_bytes)):
        yield {
            "type": name,
            "value": f"{value:.6g}" if isinstance(value, float) else str(value),
            "slice": measured.target,
        }


def _runtime(manifest: Manifest) -> dict[str, Any]:
    first = next(iter(manifest.measured()), None)
    version = manifest.runtime_versions if first is None else first.setting.runtime_version.rpartition(" ")[2]
    return {
        "type": "framework",
        "bom-ref": "runtime",
        "name": manifest.runtime,
        "version": version,
        "properties": [{"name": "io.edgeward:versions-allowed", "value": manifest.runtime_versions}],
    }


def _files(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Besides the model."""
    for number, layer in enumerate(manifest.layers):
        if layer.digest != manifest.model.files[0].digest:
            ref = f"file-{number}"
            yield {"type": "file", "bom-ref": ref, "name": layer.digest, "mime-type": layer.media_type,
                   "hashes": _hashes(layer.digest)}  # fmt: skip


def _made_of(report: Report) -> Iterator[dict[str, Any]]:
    yield {
        "type": "machine-learning-model", "bom-ref": "source-model", "name": report.model,
        "hashes": _hashes(report.model_digest),
    }  # fmt: skip
    for one in _datasets(report):
        about = {"type": "dataset", "name": one.name, "description": f"{one.sample_count} samples, for {one.purpose}"}
        yield {"type": "data", "bom-ref": _ref(one), "name": one.name, "hashes": _hashes(one.samples), "data": [about]}


def _datasets(report: Report) -> tuple[Dataset, ...]:
    return report.calibration, report.evaluation


def _ref(one: Dataset) -> str:
    return f"data-{one.purpose}"


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": hex_of(digest)}]
