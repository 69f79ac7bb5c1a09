"""`model.sig`, judged by the OpenSSF's own model-signing, and theirs by ours."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeward import bundle
from edgeward.bundle.model_signing import check_signed, write_signed
from edgeward.kit.errors import Refused

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@pytest.fixture
def key(tmp_path: Path) -> bundle.SigningKey:
    return bundle.create_key(tmp_path / "a.key")


def theirs(*words: object) -> "subprocess.CompletedProcess[str]":
    pytest.importorskip("model_signing", reason="pip install model-signing pyopenssl")
    command = [sys.executable, "-m", "model_signing", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_model_signing_takes_ours_and_sees_an_altered_file(tmp_path: Path, key: bundle.SigningKey) -> None:
    place = tmp_path / "plain"
    assert write_signed(GOLDEN / "bundle-v1-good", place, key) > 3
    public = bundle.public_path_of(key.path)
    asked = ("verify", "key", place, "--signature", place / "model.sig", "--public_key", public)
    done = theirs(*asked)
    assert done.returncode == 0, done.stdout + done.stderr
    (place / "model.echo").write_bytes(b"another")
    assert theirs(*asked).returncode != 0


def test_ours_takes_what_model_signing_signed(tmp_path: Path, key: bundle.SigningKey) -> None:
    place = tmp_path / "model"
    shutil.copytree(GOLDEN / "bundle-v1-good/blobs/sha256", place)
    done = theirs("sign", "key", place, "--signature", place / "model.sig", "--private_key", key.path)
    assert done.returncode == 0, done.stdout + done.stderr
    check_signed(place, key.public)


def test_ours_sees_what_is_altered_missing_or_too_much_and_a_stranger(tmp_path: Path, key: bundle.SigningKey) -> None:
    place = tmp_path / "plain"
    write_signed(GOLDEN / "bundle-v1-good", place, key)
    check_signed(place, key.public)
    with pytest.raises(Refused, match="is not signed by"):
        check_signed(place, bundle.create_key(tmp_path / "b.key").public)
    (place / "more").touch()
    with pytest.raises(Refused, match="more is not signed"):
        check_signed(place, key.public)
    (place / "more").unlink()
    (place / "edgeward.json").rename(tmp_path / "away")
    with pytest.raises(Refused, match=r"edgeward\.json is missing"):
        check_signed(place, key.public)
    (place / "edgeward.json").write_bytes(b"{}")
    with pytest.raises(Refused, match=r"edgeward\.json is altered"):
        check_signed(place, key.public)
