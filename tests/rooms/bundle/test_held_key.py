"""Keys that are asked to sign and never read: a real PKCS#11 token in software."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeward import bundle as room
from edgeward.bundle.held_key import is_uri, open_key
from edgeward.kit.errors import Failed, Unsupported, WrongInput

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
GOLDEN = Path(__file__).parents[2] / "golden"
_MAKE_KEY = """
import sys, pkcs11
from pkcs11.util.ec import encode_named_curve_parameters
token = pkcs11.lib(sys.argv[1]).get_token(token_label="release")
with token.open(rw=True, user_pin="1234") as session:
    for number, curve in ((2, "secp256r1"), (3, "secp384r1")):
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}, local=True)
        parameters.generate_keypair(id=bytes([number]), store=True, label="k")
"""
needs_token = pytest.mark.skipif(
    not MODULE.exists() or shutil.which("softhsm2-util") is None, reason="softhsm2 is missing: apt-get install softhsm2"
)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A token "release" with a key of the right kind (2) and one of another (3); the environment that finds it."""
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\n")
    environment = {"SOFTHSM2_CONF": str(folder / "softhsm2.conf"), "PYKCS11LIB": str(MODULE)}
    words = ["softhsm2-util", "--init-token", "--free", "--label", "release", "--pin", "1234", "--so-pin", "4321"]
    for command in (words, [sys.executable, "-c", _MAKE_KEY, str(MODULE)]):
        subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
    return environment


def edgeward(environment: dict[str, str], *words: object) -> "subprocess.CompletedProcess[str]":
    """A process of its own: a token's library is loaded once in each."""
    command = [sys.executable, "-m", "edgeward", *map(str, words)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)  # fmt: skip


@needs_token
def test_a_token_signs_and_a_device_verifies_with_its_public_half(token, unsigned, tmp_path) -> None:
    public, pin = tmp_path / "release.pub", {**token, "EDGEWARD_KEY_PASSWORD": "1234"}
    done = edgeward(pin, "sign", unsigned, "--key", "hsm:2?label=release", "--public", public)
    assert done.returncode == 0, done.stderr
    assert f"edgeward verify {unsigned} --key {public}" in done.stdout
    before = sorted(path.name for path in (unsigned / "blobs/sha256").iterdir())
    assert edgeward(pin, "sign", unsigned, "--key", "hsm:2", "--public", public).returncode == 0
    assert sorted(path.name for path in (unsigned / "blobs/sha256").iterdir()) == before, "twice changes nothing"
    assert edgeward({}, "verify", unsigned, "--key", public).returncode == 0
    assert edgeward({}, "verify", unsigned, "--key", GOLDEN / "signer.pub").returncode == 6


@needs_token
@pytest.mark.parametrize(
    ("key", "environment", "code", "told"),
    [
        (
            "hsm:2?label=release",
            {"EDGEWARD_KEY_PASSWORD": "9999"},
            1,
            "hsm:2?label=release: did not sign: PinIncorrect",
        ),
        ("hsm:2?label=release", {}, 2, "the token wants its pin"),
        ("hsm:7?label=release", {"EDGEWARD_KEY_PASSWORD": "1234"}, 2, "could not find ECDSA key on the PKCS#11 token"),
        ("hsm:3?label=release", {"EDGEWARD_KEY_PASSWORD": "1234"}, 2, "wanted ECDSA P-256"),
        ("hsm:2?label=other", {"EDGEWARD_KEY_PASSWORD": "1234"}, 2, "No PKCS#11 token found for label other"),
        ("hsm:two", {"EDGEWARD_KEY_PASSWORD": "1234"}, 2, "wanted hsm:NUMBER?label=TOKEN"),
        ("hsm:2", {"PYKCS11LIB": ""}, 2, "PYKCS11LIB environment variable must be set"),
        ("awskms:alias/release", {}, 2, "its public key is wanted too"),
    ],
)
def test_what_a_token_does_not_do_is_one_sentence(token, unsigned, tmp_path, key, environment, code, told) -> None:
    done = edgeward({**token, **environment}, "sign", unsigned, "--key", key, "--public", tmp_path / "new.pub")
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (unsigned / "blobs/sha256" / "partial").exists()


def test_a_service_whose_package_is_missing_is_told_with_the_package(signer) -> None:
    with pytest.raises(Unsupported, match="keys of gcpkms: need a package") as told:
        open_key("gcpkms:projects/p", room.public_path_of(signer.path), lambda _: "")
    assert told.value.hint == "pip install 'securesystemslib[gcpkms]'"


def test_a_key_service_that_signs_with_another_key_is_noticed(signer, stranger, monkeypatch) -> None:
    from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Signature, Signer

    class Service(Signer):
        """A key service of the documented interface; it has the stranger's key."""

        @classmethod
        def from_priv_key_uri(cls, priv_key_uri, public_key, secrets_handler=None):
            del priv_key_uri, secrets_handler
            service = cls()
            service._public_key = public_key
            return service

        @property
        def public_key(self):
            return self._public_key

        def sign(self, payload):
            if payload == b"away":
                raise ConnectionError("no route")
            return Signature(self._public_key.keyid, stranger.sign(payload).hex())

    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "awskms", Service)
    theirs = open_key("awskms:alias/x", room.public_path_of(stranger.path), lambda _: "")
    assert stranger.public.has_signed(b"message", theirs.sign(b"message"))
    with pytest.raises(Failed, match="awskms:alias/x: did not sign: no route"):
        theirs.sign(b"away")
    with pytest.raises(WrongInput, match="signs with another key than"):
        open_key("awskms:alias/x", room.public_path_of(signer.path), lambda _: "").sign(b"message")


@pytest.mark.parametrize(
    ("text", "wanted"), [("hsm:2", True), ("release.key", False), ("hsm", False), ("C:key", False)]
)
def test_a_uri_is_told_from_a_file(text, wanted) -> None:
    assert is_uri(text) == wanted
