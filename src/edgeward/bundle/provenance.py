"""How a bundle came to be, as an SLSA v1 provenance: data sets and model → passes → measurements → bytes."""

import base64
from collections.abc import Iterator
from typing import Any, Final

from edgeward import __version__
from edgeward.bundle.bom import hex_of, moment
from edgeward.kit import codec
from edgeward.records.bundle import Manifest
from edgeward.records.candidate import Report
from edgeward.records.model import Dataset

PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
OPTIMIZED: Final = "https://edgeward.io/optimize/v1"
"""The search chose it: its order, its data and its steps are told."""
PACKED: Final = "https://edgeward.io/pack/v1"
"""A model as somebody gave it."""
_BUILDER = "https://edgeward.io/edgeward"


def provenance(manifest: Manifest, report: Report | None) -> dict[str, Any]:
    """The predicate of the bundle that `manifest` describes; `report` is of the search that made it, if one did."""
    return {
        "buildDefinition": _packing(manifest) if report is None else _search(report),
        "runDetails": {
            "builder": {
                "id": _BUILDER,
                "version": {"edgeward": __version__ if report is None else report.edgeward_version},
            },
            "metadata": _times(manifest, report),
            "byproducts": list(_byproducts(manifest)),
        },
    }


def _packing(manifest: Manifest) -> dict[str, Any]:
    model = manifest.model.files[0]
    return {
        "buildType": PACKED,
        "externalParameters": {"name": manifest.name, "version": manifest.version},
        "resolvedDependencies": [
            {"name": f"model.{manifest.model.format}", "digest": {"sha256": hex_of(model.digest)}}
        ],
    }


def _search(report: Report) -> dict[str, Any]:
    chosen = report.chosen
    inside: dict[str, Any] = {} if chosen is None else {
        "recipe": chosen.recipe, "runtime": chosen.runtime, "runtimeVersion": chosen.runtime_version,
        "precision": chosen.precision, "steps": chosen.steps,
    }  # fmt: skip
    return {
        "buildType": OPTIMIZED,
        "externalParameters": {
            "model": report.model, "target": report.target, "metric": report.metric, "maxDrop": report.max_drop,
            "budget": report.budget, "seed": report.seed, "command": report.command,
        },
        "internalParameters": inside,
        "resolvedDependencies": [
            {"name": report.model, "digest": {"sha256": hex_of(report.model_digest)}},
            *(_dataset(one) for one in (report.calibration, report.evaluation)),
        ],
    }  # fmt: skip


def _dataset(one: Dataset) -> dict[str, Any]:
    said = {"purpose": one.purpose, "kind": one.kind, "sampleCount": one.sample_count}
    return {"name": one.name, "digest": {"sha256": hex_of(one.samples)}, "annotations": said}


def _times(manifest: Manifest, report: Report | None) -> dict[str, str]:
    return {"finishedOn": moment(manifest.created_at if report is None else report.taken_at)}


def _byproducts(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The measurements, whole."""
    for measured in manifest.measured():
        content = base64.b64encode(codec.to_canonical_json(measured)).decode()
        yield {"name": f"measurement on {measured.target}", "mediaType": "application/json", "content": content}
