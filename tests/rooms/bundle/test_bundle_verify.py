"""What is refused, and for which stated reason. Nothing unverified gets through."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from bundle_parts import (
    blob,
    change_manifest,
    change_record,
    file_of,
    index_of,
    manifest_of,
    relist_signature,
    tiny_parts,
    write_index,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeward import bundle as room
from edgeward.bundle.layout import MODEL_TYPE, SIGNATURE_TYPE, Layout
from edgeward.kit import codec
from edgeward.kit.errors import Refused, WrongInput

REASONS = {
    "bundle-v1-unsigned": "is not signed",
    "bundle-v1-wrong-key": "is signed by an unknown key: sha256:9869",
    "bundle-v1-flipped-bit-model": "model.echo (sha256:3e5f20733983…): altered",
    "bundle-v1-flipped-bit-manifest": "a manifest (sha256:7a36126f1db6…): altered",
    "bundle-v1-truncated-model": "model.echo (sha256:3e5f20733983…): truncated: 37 bytes, wanted 74",
    "bundle-v1-missing-blob": "model.echo (sha256:3e5f20733983…): this blob is missing",
    "bundle-v1-swapped-model": "the signatures in it are of another bundle",
    "bundle-v1-path-escape": "'../../../etc/cron.d/model', which leads out of the bundle",
    "bundle-v1-altered-statement": "signature (sha256:",
    "bundle-v1-unknown-step": "invalid value 'step_of_tomorrow' - at `$.preprocess[0].type`",
    "bundle-newer-schema": "made by a newer edgeward: its schema version is 2",
}


def golden_trust(golden):
    return room.trusted_keys([golden / "signer.pub"])


@pytest.mark.parametrize(("case", "reason"), REASONS.items())
def test_a_bad_golden_bundle_is_refused_for_its_reason(golden, case, reason):
    with pytest.raises(Refused) as refusal:
        room.verify(golden / case, golden_trust(golden))
    assert reason in refusal.value.message
    assert str(golden / case) in refusal.value.message


def test_every_golden_bundle_is_good_or_has_its_reason(golden):
    assert {case.name for case in golden.glob("bundle-*")} == {"bundle-v1-good", "bundle-v1-complete", *REASONS}


def test_the_first_format_still_opens_and_answers(golden):
    verified = room.verify(golden / "bundle-v1-good", golden_trust(golden))
    assert verified.bundle.digest == "sha256:7a36126f1db60d5a8b8ddcf975e1aa6ad35c7b4da961983f730b0e6e74dae7de"
    assert verified.manifest.labels == ("low", "middle", "high")
    assert verified.manifest.measurement.quality == {"top1": 0.9}
    assert [signer.source for signer in verified.signers] == [str(golden / "signer.pub")]
    assert room.run_self_test(verified, room.open_predictor(verified)).passed


def test_unsigned_comes_with_the_command_that_mends_it(unsigned, trust):
    with pytest.raises(Refused) as refusal:
        room.verify(unsigned, trust)
    assert refusal.value.hint == f"edgeward sign {unsigned}"


def test_the_wrong_key_names_the_one_got_and_those_trusted(unsigned, stranger, signer, trust):
    room.sign(unsigned, stranger)
    with pytest.raises(Refused) as refusal:
        room.verify(unsigned, trust)
    assert stranger.fingerprint in refusal.value.message
    assert f"{signer.fingerprint} ({room.public_path_of(signer.path)})" in refusal.value.message


def test_where_no_key_is_trusted_it_says_so(signed):
    with pytest.raises(Refused, match="no key is trusted on this machine"):
        room.verify(signed, room.trusted_keys())


def test_one_trusted_signature_among_others_is_enough(signed, stranger, trust, signer):
    room.sign(signed, stranger)
    verified = room.verify(signed, trust)
    assert [key.fingerprint for key in verified.signers] == [signer.fingerprint]
    assert [one.key for one in verified.bundle.signatures] == [signer.fingerprint]


def test_a_signature_in_the_name_of_a_trusted_key_is_invalid(unsigned, stranger, signer, trust):
    room.sign(unsigned, stranger)
    referrer = manifest_of(unsigned, 1)
    forged = json.loads(blob(unsigned, referrer["layers"][0]["digest"]).read_bytes())
    forged["verificationMaterial"]["publicKey"]["hint"] = signer.fingerprint
    relist_signature(unsigned, referrer, forged)
    with pytest.raises(Refused, match=r"is invalid: it names the trusted key sha256:\w+, which did not make it"):
        room.verify(unsigned, trust)


def test_a_real_signature_moved_to_another_bundle_is_refused(signed, tmp_path, signer, trust):
    other = tmp_path / "other"
    other.mkdir()
    room.assemble(other, tiny_parts(version="2"))
    room.sign(other, signer)
    referrer = manifest_of(other, 1)
    of_first = json.loads(blob(signed, manifest_of(signed, 1)["layers"][0]["digest"]).read_bytes())
    relist_signature(other, referrer, of_first)
    with pytest.raises(Refused, match="is the signature of another bundle"):
        room.verify(other, trust)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda bundle: bundle["dsseEnvelope"].update(payload="!!"), "base64 is damaged"),
        (lambda bundle: bundle["dsseEnvelope"].update(payload="é"), "base64 is damaged"),
        (lambda bundle: bundle["dsseEnvelope"].update(signatures=[]), "holds 0 signatures"),
        (lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"), "invalid enum value 'text/plain'"),
        (lambda bundle: bundle.pop("dsseEnvelope"), "missing required field `dsseEnvelope`"),
    ],
)
def test_a_damaged_signature_file_says_what_is_wrong_with_it(signed, trust, spoil, reason):
    referrer = manifest_of(signed, 1)
    bundle = json.loads(blob(signed, referrer["layers"][0]["digest"]).read_bytes())
    spoil(bundle)
    relist_signature(signed, referrer, bundle)
    with pytest.raises(Refused, match=reason):
        room.verify(signed, trust)


def test_no_other_way_leads_to_a_verified_bundle(signed, trust):
    with pytest.raises(TypeError):
        room.VerifiedBundle(object(), None, ())
    assert room.verify(signed, trust).model == tiny_parts().model_bytes


def test_what_was_verified_is_what_is_used_whatever_happens_to_the_folder(signed, trust):
    verified = room.verify(signed, trust)
    shutil.rmtree(signed)
    assert room.run_self_test(verified, room.open_predictor(verified)).passed


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: write_index(folder, index_of(folder) | {"manifests": []}), "lists no model manifest"),
        (lambda folder: write_index(folder, {"schemaVersion": 2}), "missing required field"),
        (lambda folder: (folder / "index.json").write_bytes(b""), "input data was truncated"),
        (lambda folder: (folder / "index.json").write_bytes(b"[" * 900_000), "index.json"),
        (lambda folder: (folder / "index.json").write_bytes(b"\xff\xfe{}"), "malformed"),
        (lambda folder: (folder / "oci-layout").write_bytes(b'{"imageLayoutVersion":"9"}'), "invalid enum value '9'"),
        (lambda folder: os.truncate(folder / "index.json", 1 << 40), "is longer than 1000000 bytes"),
        (lambda folder: os.truncate(file_of(folder, "model.echo"), 1 << 40), r"longer than it was: \d+ bytes, wanted"),
    ],
)
def test_a_spoiled_table_of_contents_or_endless_file_is_refused(signed, trust, spoil, reason):
    spoil(signed)
    with pytest.raises(Refused, match=reason):
        room.verify(signed, trust)


def test_an_index_as_other_programs_write_it_is_read(signed, trust):
    """skopeo copies leave out what OCI calls optional, and put a tag of their own."""
    index = index_of(signed)
    del index["mediaType"]
    for entry in index["manifests"]:
        del entry["artifactType"]
        entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    write_index(signed, index)
    assert room.verify(signed, trust).manifest.version == "1"


def test_two_models_in_one_bundle_are_refused(signed, trust):
    index = index_of(signed)
    index["manifests"].append(index["manifests"][0])
    write_index(signed, index)
    with pytest.raises(Refused, match="lists 2 model manifests; wanted one"):
        room.verify(signed, trust)


def test_a_crowded_index_is_refused(signed, trust):
    index = index_of(signed)
    index["manifests"] += [index["manifests"][1]] * 64
    write_index(signed, index)
    with pytest.raises(Refused, match="lists 66 manifests, allowed are 64"):
        room.verify(signed, trust)


def test_a_manifest_that_claims_to_be_endless_is_not_read(signed, trust):
    index = index_of(signed)
    index["manifests"][0]["size"] = 1 << 60
    write_index(signed, index)
    with pytest.raises(Refused, match="allowed are 1000000"):
        room.verify(signed, trust)


def test_an_index_that_calls_a_signature_something_else_is_refused(signed, trust):
    index = index_of(signed)
    index["manifests"][1]["artifactType"] = MODEL_TYPE
    write_index(signed, index)
    with pytest.raises(Refused, match=re.escape(f"it is a {SIGNATURE_TYPE}")):
        room.verify(signed, trust)


@pytest.mark.parametrize("place", ["index.json", "oci-layout", "model.echo"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device"])
def test_only_regular_files_are_read(signed, trust, tmp_path, place, kind):
    path = file_of(signed, place) if place == "model.echo" else signed / place
    path.rename(tmp_path / "original")
    match kind:
        case "link":
            path.symlink_to(tmp_path / "original")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
    with pytest.raises(Refused, match=r"is a link|is no regular file"):
        room.verify(signed, trust)


def test_a_link_in_place_of_the_blobs_folder_is_refused(signed, trust, tmp_path):
    (signed / "blobs").rename(tmp_path / "elsewhere")
    (signed / "blobs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="blobs: is a link"):
        room.verify(signed, trust)


def test_a_link_to_the_whole_bundle_is_fine(signed, trust, tmp_path):
    (tmp_path / "current").symlink_to(signed)
    assert room.verify(tmp_path / "current", trust).manifest.name == "tiny"


PATHS = ["/etc/passwd", "../model", "a/../../b", "", "a\\..\\b", "a\nb"]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_leads_out_is_refused_even_when_signed(unsigned, signer, trust, path):
    def lead_out(manifest):
        manifest["layers"][1]["annotations"]["org.cncf.model.filepath"] = path

    change_manifest(unsigned, lead_out, signer)
    with pytest.raises(Refused, match="leads out of the bundle"):
        room.verify(unsigned, trust)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda manifest: manifest["layers"].pop(0), r"has no edgeward\.json"),
        (lambda manifest: manifest["layers"].pop(1), "speaks of sha256:.* does not list"),
        (lambda manifest: manifest["layers"].append(manifest["layers"][1]), "names the file 'model.echo' twice"),
        (lambda manifest: manifest["layers"][1].update(size=3), "speaks of sha256"),
        (lambda manifest: manifest["config"].update(digest="sha256:" + "0" * 64), "ModelPack config .* missing"),
        (lambda manifest: manifest["layers"][0].update(digest="md5:0"), "matching regex"),
    ],
)
def test_a_signed_manifest_that_makes_no_sense_is_refused(unsigned, signer, trust, change, reason):
    change_manifest(unsigned, change, signer)
    with pytest.raises(Refused, match=reason):
        room.verify(unsigned, trust)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: record.update(schema_version=7), "made by a newer edgeward: its schema version is 7"),
        (lambda record: record.pop("schema_version"), "missing required field `schema_version`"),
        (lambda record: record["model"].update(files=[]), "names 0 model files; wanted one"),
        (lambda record: record.update(preprocess=[{"type": "dream"}]), "invalid value 'dream'"),
        (lambda record: record["self_test"].update(tolerance=-1), "expected `float` > 0"),
    ],
)
def test_a_signed_record_that_makes_no_sense_is_refused(unsigned, signer, trust, change, reason):
    change_record(unsigned, change, signer)
    with pytest.raises(Refused, match=reason):
        room.verify(unsigned, trust)


def test_a_self_test_that_is_no_npz_is_refused_when_it_is_wanted(unsigned, signer, trust):
    stored = Layout(unsigned).put(b"PK\x03\x04 and no more", "")

    def spoil(record):
        for listed in (record["self_test"]["inputs"], record["layers"][1]):
            listed.update(digest=stored.digest, size_bytes=stored.size)

    change_record(unsigned, spoil, signer)
    change_manifest(
        unsigned, lambda manifest: manifest["layers"][2].update(digest=stored.digest, size=stored.size), signer
    )
    with pytest.raises(Refused, match=r"selftest/inputs\.npz: is no readable \.npz"):
        room.verify(unsigned, trust).self_test()


def test_what_is_no_bundle_is_wrong_input(tmp_path, trust):
    (tmp_path / "file").write_text("model")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme").write_text("hello")
    for name, reason in {
        "absent": "no such bundle",
        "file": "is a file, wanted a bundle's folder",
        "empty": "is an empty folder",
        "other": "there is no oci-layout in it",
    }.items():
        for read in (lambda path: room.verify(path, trust), room.peek, room.find_bundle):
            with pytest.raises(WrongInput, match=reason):
                read(tmp_path / name)


def test_a_bundle_is_found_inside_what_optimize_wrote(signed, tmp_path):
    assert room.find_bundle(tmp_path) == signed
    assert room.find_bundle(signed) == signed


def test_peek_reads_the_unsigned_and_the_foreign_but_not_the_altered(unsigned, stranger):
    assert room.peek(unsigned).signatures == ()
    room.sign(unsigned, stranger)
    assert [signature.key for signature in room.peek(unsigned).signatures] == [stranger.fingerprint]
    file_of(unsigned, "model.echo").write_bytes(b"something else")
    with pytest.raises(Refused, match=r"model\.echo"):
        room.peek(unsigned)


def snapshot(verified):
    inputs, expected = verified.self_test()
    arrays = b"".join(np.ascontiguousarray(a).tobytes() for a in (*inputs.values(), *expected.values()))
    return codec.to_canonical_json(verified.bundle.manifest), verified.bundle.digest, verified.model, arrays


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_refused_or_changes_nothing(signed, trust, data):
    """Every byte of every blob is bound by the signature. The index is not signed; it can only be refused, or
    lead to the same content (its annotations are there for registry tools, and nothing here uses them)."""
    files = sorted(path for path in signed.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    original = path.read_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    flip = data.draw(st.integers(1, 255))
    good = snapshot(room.verify(signed, trust))
    path.write_bytes(original[:position] + bytes([original[position] ^ flip]) + original[position + 1 :])
    try:
        verified = room.verify(signed, trust)
    except (Refused, WrongInput):
        pass
    else:
        assert path.name == "index.json"
        assert snapshot(verified) == good
    finally:
        path.write_bytes(original)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_cut_file_is_refused(signed, trust, data):
    files = sorted(path for path in signed.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    original = path.read_bytes()
    length = data.draw(st.integers(0, len(original) - 1))
    path.write_bytes(original[:length])
    try:
        with pytest.raises(Refused):
            room.verify(signed, trust)
    finally:
        path.write_bytes(original)
