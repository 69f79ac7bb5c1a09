"""Keys on disk, whom we trust, and what a signature is to other programs."""

import base64
import json
import os
import stat
import subprocess
import sys

import pytest
from bundle_parts import blob, file_of, index_of, manifest_of
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from edgeward import bundle as room
from edgeward.kit.errors import Refused, WrongInput

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


def private_pem(key, password=None):
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(PEM, PKCS8, protection)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_key_is_made_private_and_then_used_again(configuration):
    key, created = room.load_or_create_key()
    again, created_again = room.load_or_create_key()
    assert (created, created_again) == (True, False)
    assert key.fingerprint == again.fingerprint
    assert key.path == room.default_key_path() == configuration / "signing.key"
    assert mode_of(key.path) == 0o600
    assert mode_of(configuration / "signing.pub") == 0o644
    assert sorted(path.name for path in configuration.iterdir()) == ["signing.key", "signing.pub"]


def test_one_own_key_is_trusted_without_being_asked(unsigned):
    key, _ = room.load_or_create_key()
    room.sign(unsigned, key)
    assert room.verify(unsigned, room.trusted_keys()).signers[0].fingerprint == key.fingerprint


def test_a_lost_public_half_comes_back(configuration):
    key, _ = room.load_or_create_key()
    (configuration / "signing.pub").unlink()
    room.load_or_create_key()
    assert room.trusted_keys().keys[0].fingerprint == key.fingerprint


def test_processes_that_make_the_first_key_at_once_end_with_one(configuration):
    program = "from edgeward.bundle import load_or_create_key as k; print(k()[0].fingerprint)"
    started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(4)]
    fingerprints = {process.communicate()[0] for process in started}
    assert [process.returncode for process in started] == [0] * 4
    assert len(fingerprints) == 1
    assert sorted(path.name for path in configuration.iterdir()) == ["signing.key", "signing.pub"]


def test_a_new_key_never_replaces_one_that_is_there(signer):
    before = signer.path.read_bytes()
    with pytest.raises(FileExistsError):
        room.create_key(signer.path)
    assert signer.path.read_bytes() == before


def test_the_fingerprint_is_what_openssl_says_of_the_same_key(signer):
    from edgeward.kit.codec import digest_of

    public = serialization.load_pem_public_key(signer.public_pem)
    assert signer.fingerprint == digest_of(public.public_bytes(serialization.Encoding.DER, SPKI))


def test_signing_twice_changes_nothing(signed, signer):
    before = {path: path.read_bytes() for path in signed.rglob("*") if path.is_file()}
    room.sign(signed, signer)
    assert {path: path.read_bytes() for path in signed.rglob("*") if path.is_file()} == before


def test_signatures_stand_side_by_side(signed, signer, stranger, trust):
    room.sign(signed, stranger)
    room.sign(signed, signer)
    assert len(index_of(signed)["manifests"]) == 3
    everyone = room.trusted_keys([room.public_path_of(key.path) for key in (signer, stranger)])
    assert [key.fingerprint for key in room.verify(signed, everyone).signers] == [
        signer.fingerprint,
        stranger.fingerprint,
    ]


def test_signers_at_the_same_time_do_not_lose_each_other(unsigned, tmp_path):
    program = (
        "import sys; from pathlib import Path; from edgeward import bundle as b;"
        "b.sign(Path(sys.argv[1]), b.create_key(Path(sys.argv[2])))"
    )
    names = [tmp_path / f"{number}.key" for number in range(4)]
    started = [subprocess.Popen([sys.executable, "-c", program, unsigned, name]) for name in names]
    assert [process.wait() for process in started] == [0] * 4
    trust = room.trusted_keys([name.with_suffix(".pub") for name in names])
    assert len(room.verify(unsigned, trust).signers) == 4


def test_what_is_altered_is_not_signed(unsigned, signer):
    file_of(unsigned, "model.echo").write_bytes(b"something else")
    before = (unsigned / "index.json").read_bytes()
    with pytest.raises(Refused, match=r"model\.echo"):
        room.sign(unsigned, signer)
    assert (unsigned / "index.json").read_bytes() == before


def test_the_signature_is_a_sigstore_referrer_that_plain_cryptography_accepts(signed, signer):
    """Read as another program would: DSSE over an in-toto statement, checked without any code of ours."""
    entry = index_of(signed)["manifests"][0]
    referrer = manifest_of(signed, 1)
    assert referrer["artifactType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert referrer["subject"] == {key: entry[key] for key in ("mediaType", "digest", "size")}
    assert referrer["config"]["digest"].startswith(
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caa"
    )
    assert blob(signed, referrer["config"]["digest"]).read_bytes() == b"{}"
    bundle = json.loads(blob(signed, referrer["layers"][0]["digest"]).read_bytes())
    assert bundle["verificationMaterial"]["publicKey"] == {"hint": signer.fingerprint}
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    signed_bytes = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    public = serialization.load_pem_public_key(room.public_path_of(signer.path).read_bytes())
    public.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed_bytes, ec.ECDSA(hashes.SHA256()))
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://sigstore.dev/cosign/sign/v1"
    assert statement["subject"] == [{"digest": {"sha256": entry["digest"].removeprefix("sha256:")}, "name": ""}]


def test_an_encrypted_key_wants_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEWARD_KEY_PASSWORD", "Brücke 7")
    made = room.create_key(tmp_path / "release.key")
    assert b"ENCRYPTED" in made.path.read_bytes()
    assert room.load_key(made.path).fingerprint == made.fingerprint
    monkeypatch.setenv("EDGEWARD_KEY_PASSWORD", "guess")
    with pytest.raises(WrongInput, match="its password is not the one in EDGEWARD_KEY_PASSWORD"):
        room.load_key(made.path)
    monkeypatch.delenv("EDGEWARD_KEY_PASSWORD")
    with pytest.raises(WrongInput, match="is encrypted") as missing:
        room.load_key(made.path)
    assert "EDGEWARD_KEY_PASSWORD=" in missing.value.hint


def test_a_password_in_the_environment_does_not_hinder_a_plain_key(signer, monkeypatch):
    monkeypatch.setenv("EDGEWARD_KEY_PASSWORD", "any")
    assert room.load_key(signer.path).fingerprint == signer.fingerprint


def test_a_key_that_others_can_read_is_a_warning_with_the_command(signer, capfd):
    room.load_key(signer.path)
    assert capfd.readouterr().err == ""
    signer.path.chmod(0o640)
    room.load_key(signer.path)
    assert f"chmod 600 {signer.path}" in capfd.readouterr().err


BAD_PRIVATE = {
    "garbage": (b"hello", "is no private key in PEM"),
    "empty": (b"", "is no private key in PEM"),
    "long": (b"a" * 70_000, "too long"),
    "rsa": (private_pem(rsa.generate_private_key(65537, 2048)), "is an RSA key; wanted ECDSA P-256"),
    "ed25519": (private_pem(ed25519.Ed25519PrivateKey.generate()), "is an Ed25519 key; wanted ECDSA P-256"),
    "curve": (private_pem(ec.generate_private_key(ec.SECP384R1())), "curve secp384r1; wanted ECDSA P-256"),
    "public": (
        ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(PEM, SPKI),
        "is a public key; signing wants the private one",
    ),
}


@pytest.mark.parametrize("name", BAD_PRIVATE)
def test_what_is_no_private_key_is_told_in_a_sentence(tmp_path, name):
    data, reason = BAD_PRIVATE[name]
    path = tmp_path / "some.key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(WrongInput, match=reason):
        room.load_key(path)


BAD_PUBLIC = {
    "garbage": (b"hello", "is no public key in PEM"),
    "empty": (b"", "is no public key in PEM"),
    "half": (b"-----BEGIN PUBLIC KEY-----\nMFkw", "is no public key in PEM"),
    "base64": (b"-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----", "is no public key in PEM"),
    "rsa": (
        rsa.generate_private_key(65537, 2048).public_key().public_bytes(PEM, SPKI),
        "of another kind; wanted ECDSA P-256",
    ),
    "private": (private_pem(ec.generate_private_key(ec.SECP256R1())), "is a private key; wanted the public one"),
}


@pytest.mark.parametrize("name", BAD_PUBLIC)
def test_what_is_no_public_key_is_told_in_a_sentence(tmp_path, name):
    data, reason = BAD_PUBLIC[name]
    path = tmp_path / "some.pub"
    path.write_bytes(data)
    with pytest.raises(WrongInput, match=reason):
        room.trusted_keys([path])


def test_a_point_beside_the_curve_is_no_key(signer, tmp_path):
    lines = signer.public_pem.decode().splitlines()
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    der[-1] ^= 1
    body = base64.b64encode(bytes(der)).decode()
    (tmp_path / "bad.pub").write_text(f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    with pytest.raises(WrongInput, match="its point is not on the curve"):
        room.trusted_keys([tmp_path / "bad.pub"])


def test_missing_keys_and_folders_are_told(tmp_path):
    with pytest.raises(WrongInput, match="no such key") as missing:
        room.load_key(tmp_path / "a.key")
    assert "--new-key" in missing.value.hint
    with pytest.raises(WrongInput, match="no such key"):
        room.trusted_keys([tmp_path / "a.pub"])
    with pytest.raises(WrongInput, match="is no file"):
        room.trusted_keys([tmp_path])


def test_a_key_file_may_have_windows_lines_and_words_around_it(signer, tmp_path):
    text = b"our release key\r\n" + signer.public_pem.replace(b"\n", b"\r\n") + b"\r\n"
    (tmp_path / "mailed.pub").write_bytes(text)
    assert room.trusted_keys([tmp_path / "mailed.pub"]).keys[0].fingerprint == signer.fingerprint


def test_a_private_key_is_never_named_like_a_public_one(tmp_path):
    with pytest.raises(WrongInput, match=r"\.pub is the ending of public keys"):
        room.create_key(tmp_path / "mine.pub")


def test_trust_comes_from_the_call_else_the_environment_else_the_configuration(
    configuration, signer, stranger, monkeypatch
):
    own, _ = room.load_or_create_key()
    folder = configuration / "trusted"
    folder.mkdir()
    (folder / "colleague.pub").write_bytes(stranger.public_pem)
    (folder / "notes.txt").write_text("not a key")
    assert fingerprints(room.trusted_keys()) == [own.fingerprint, stranger.fingerprint]
    public = room.public_path_of(signer.path)
    monkeypatch.setenv("EDGEWARD_TRUSTED_KEYS", os.pathsep.join([str(public), str(public)]))
    assert fingerprints(room.trusted_keys()) == [signer.fingerprint]
    assert fingerprints(room.trusted_keys([room.public_path_of(stranger.path)])) == [stranger.fingerprint]


def test_a_damaged_key_in_the_trusted_folder_is_not_passed_over_in_silence(configuration):
    (configuration / "trusted").mkdir(parents=True)
    (configuration / "trusted" / "old.pub").write_text("?")
    with pytest.raises(WrongInput, match=r"trusted/old\.pub: is no public key"):
        room.trusted_keys()


def fingerprints(trust):
    return [key.fingerprint for key in trust.keys]
