"""Bill of materials and provenance: what they say, that others can check them, and that they are no signature."""

import base64
import json
import sys
from pathlib import Path

import pytest
from bundle_parts import blob, index_of, manifest_of, tiny_parts
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from msgspec.structs import replace

sys.path.append(str(Path(__file__).resolve().parents[1] / "optimize"))
from report_sample import report

from edgeward import bundle as room
from edgeward.bundle import bom, provenance
from edgeward.bundle.checking import stated_of
from edgeward.bundle.layout import Layout
from edgeward.bundle.signing import add_signature
from edgeward.kit import codec
from edgeward.kit.errors import Refused
from edgeward.records.bundle import Manifest
from edgeward.records.candidate import Measurement
from edgeward.records.model import Classify

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def golden_manifest(golden) -> Manifest:
    return room.peek(golden / "bundle-v1-complete").manifest


def made(folder: Path, **changes) -> Path:
    folder.mkdir()
    room.assemble(folder, tiny_parts(**changes))
    return folder


def test_the_bill_of_materials_keeps_the_schema_and_says_what_is_in_it(golden_manifest: Manifest) -> None:
    manifest = replace(golden_manifest, postprocess=(Classify(),))
    told = json.loads(codec.to_json(bom.bill_of_materials("sha256:" + "1" * 64, manifest, report())))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(told)) is None
    model = told["metadata"]["component"]
    assert model["licenses"] == [{"expression": "Apache-2.0"}]
    assert model["hashes"] == [{"alg": "SHA-256", "content": manifest.model.files[0].digest.removeprefix("sha256:")}]
    assert model["modelCard"]["modelParameters"]["task"] == "classification"
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert {"type": "latency_p50_ms", "value": "9", "slice": "other-target"} in metrics
    assert {"type": "top1", "value": "0.9", "slice": "golden-target"} in metrics
    names = {part["bom-ref"]: part["name"] for part in told["components"]}
    assert names["runtime"] == "echo"
    assert names["source-model"] == "keyword-spotting.onnx"
    assert names["data-calibration"] == "calibration"
    assert set(told["dependencies"][0]["dependsOn"]) == set(names)


def test_without_a_report_there_is_the_model_alone(golden_manifest: Manifest) -> None:
    told = json.loads(codec.to_json(bom.bill_of_materials("sha256:" + "1" * 64, golden_manifest, None)))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(told)) is None
    assert not any(part["bom-ref"].startswith(("data", "source")) for part in told["components"])
    told = provenance.provenance(golden_manifest, None)
    assert told["buildDefinition"]["buildType"] == provenance.PACKED
    digest = golden_manifest.model.files[0].digest.removeprefix("sha256:")
    assert told["buildDefinition"]["resolvedDependencies"] == [{"name": "model.echo", "digest": {"sha256": digest}}]


def test_provenance_leads_from_the_data_by_the_steps_to_the_figures(golden_manifest: Manifest) -> None:
    sample = report()
    told = json.loads(codec.to_json(provenance.provenance(golden_manifest, sample)))
    build = told["buildDefinition"]
    assert build["buildType"] == provenance.OPTIMIZED
    assert [one["name"] for one in build["resolvedDependencies"]] == [
        "keyword-spotting.onnx", "calibration", "evaluation"
    ]  # fmt: skip
    assert all(len(one["digest"]["sha256"]) == 64 for one in build["resolvedDependencies"])
    assert sample.chosen is not None
    assert build["internalParameters"]["recipe"] == sample.chosen.recipe
    assert [step["use"] for step in build["internalParameters"]["steps"]] == [step.use for step in sample.chosen.steps]
    figures = [base64.b64decode(one["content"]) for one in told["runDetails"]["byproducts"]]
    read = [codec.from_json(one, Measurement, "byproduct") for one in figures]
    assert tuple(read) == golden_manifest.measured()


def test_statements_are_signed_once_by_each_key_and_change_nothing(unsigned, signer, stranger, trust) -> None:
    room.sign(unsigned, signer)
    digest = room.peek(unsigned).digest
    room.attest(unsigned, signer)
    before = index_of(unsigned)
    room.attest(unsigned, signer)
    assert index_of(unsigned) == before
    assert room.verify(unsigned, trust).bundle.digest == digest
    assert [signature.key for signature in room.verify(unsigned, trust).bundle.signatures] == [signer.fingerprint]
    assert set(stated_of(Layout(unsigned), digest, trust)) == {bom.PREDICATE_TYPE, provenance.PREDICATE_TYPE}
    room.attest(unsigned, stranger)
    assert len(index_of(unsigned)["manifests"]) == len(before["manifests"]) + 2


def test_the_referrer_says_what_is_in_it(signed, signer) -> None:
    room.attest(signed, signer)
    told = manifest_of(signed, 2)
    assert told["annotations"]["dev.sigstore.bundle.predicateType"] == bom.PREDICATE_TYPE
    envelope = json.loads(blob(signed, told["layers"][0]["digest"]).read_bytes())["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert "sha256:" + statement["subject"][0]["digest"]["sha256"] == room.peek(signed).digest


def test_a_statement_is_no_signature(unsigned, signer, trust) -> None:
    room.attest(unsigned, signer)
    with pytest.raises(Refused, match="is not signed"):
        room.verify(unsigned, trust)


def test_what_a_stranger_states_counts_for_nothing(signed, stranger, trust) -> None:
    room.attest(signed, stranger)
    assert stated_of(Layout(signed), room.verify(signed, trust).bundle.digest, trust) == {}


def test_a_statement_about_another_bundle_is_refused_where_it_is_passed_off(tmp_path, signed, signer, trust) -> None:
    other = made(tmp_path / "other", version="2")
    digest = room.peek(signed).digest
    room.attest(signed, signer)
    index = index_of(signed)
    theirs = Layout(other)
    add_signature(theirs, room.peek(other).digest, signer, bom.PREDICATE_TYPE, {"bomFormat": "other"})
    referrer = manifest_of(other, 1)
    layer = Layout(signed).put(blob(other, referrer["layers"][0]["digest"]).read_bytes(), "")
    referrer["subject"] = manifest_of(signed, 2)["subject"]
    referrer["layers"][0].update(digest=layer.digest, size=layer.size)
    stored = Layout(signed).put(json.dumps(referrer).encode(), "")
    index["manifests"][2].update(digest=stored.digest, size=stored.size)
    (signed / "index.json").write_bytes(json.dumps(index).encode())
    with pytest.raises(Refused, match="of another bundle"):
        stated_of(Layout(signed), digest, trust)


def test_a_report_of_somebody_elses_form_is_kept_and_not_read(tmp_path, signer, trust) -> None:
    folder = made(tmp_path / "b", report=b'{"our own": true}')
    room.sign(folder, signer)
    room.attest(folder, signer)
    found = stated_of(Layout(folder), room.verify(folder, trust).bundle.digest, trust)
    assert found[provenance.PREDICATE_TYPE]["buildDefinition"]["buildType"] == provenance.PACKED


def test_the_report_that_came_along_is_what_is_stated(tmp_path, signer, trust) -> None:
    folder = made(tmp_path / "b", report=codec.to_json(report()))
    room.sign(folder, signer)
    room.attest(folder, signer)
    found = stated_of(Layout(folder), room.verify(folder, trust).bundle.digest, trust)
    assert found[provenance.PREDICATE_TYPE]["buildDefinition"]["buildType"] == provenance.OPTIMIZED
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(found[bom.PREDICATE_TYPE])) is None


def test_the_golden_statement_is_still_read(golden) -> None:
    trust = room.trusted_keys([golden / "signer.pub"])
    folder = golden / "bundle-v1-complete"
    verified = room.verify(folder, trust)
    manifest = verified.manifest
    assert manifest.license == "Apache-2.0"
    assert manifest.self_test.tolerance_on("other-target") == 0.02
    assert manifest.self_test.tolerance_on("golden-target") == manifest.self_test.tolerance
    assert [one.target for one in manifest.measured()] == ["golden-target", "other-target"]
    measured = manifest.measured_on("other-target")
    assert measured is not None
    assert measured.latency.p50_ms == 9.0
    assert manifest.measured_on("no-target") is None
    assert stated_of(Layout(folder), verified.bundle.digest, trust) == {
        "https://example.org/statement/v1": {"note": "stated, and signed"}
    }


def test_the_self_test_goes_by_the_targets_own_tolerance(golden) -> None:
    verified = room.verify(golden / "bundle-v1-complete", room.trusted_keys([golden / "signer.pub"]))
    predictor = room.open_predictor(verified)
    assert room.run_self_test(verified, predictor, target=lambda: "other-target").tolerance == 0.02
    assert room.run_self_test(verified, predictor, target=lambda: "another").tolerance == 0.001
    assert room.run_self_test(verified, predictor).tolerance == 0.001


def test_what_it_takes_here_stands_beside_what_was_measured(golden) -> None:
    verified = room.verify(golden / "bundle-v1-complete", room.trusted_keys([golden / "signer.pub"]))
    predictor = room.open_predictor(verified)
    cost = room.cost_of(verified, predictor, "other-target")
    assert 0 < cost.p50_ms < 1000
    assert cost.peak_memory_bytes > 1e6
    assert cost.wanted_ms == 9.0
    assert room.cost_of(verified, predictor, "another").wanted_ms is None
