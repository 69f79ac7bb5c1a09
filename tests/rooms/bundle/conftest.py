"""A signed bundle made here and now, its keys, and the golden ones."""

from pathlib import Path

import pytest
from bundle_parts import tiny_parts

from edgeward import bundle as room

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    """This user's configuration is a folder of the test; the environment names no keys."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.delenv("EDGEWARD_TRUSTED_KEYS", raising=False)
    monkeypatch.delenv("EDGEWARD_KEY_PASSWORD", raising=False)
    return tmp_path / "configuration" / "edgeward"


@pytest.fixture
def signer(tmp_path):
    return room.create_key(tmp_path / "keys" / "signer.key")


@pytest.fixture
def stranger(tmp_path):
    return room.create_key(tmp_path / "keys" / "stranger.key")


@pytest.fixture
def trust(signer):
    return room.trusted_keys([room.public_path_of(signer.path)])


@pytest.fixture
def unsigned(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    room.assemble(folder, tiny_parts())
    return folder


@pytest.fixture
def signed(unsigned, signer):
    room.sign(unsigned, signer)
    return unsigned


@pytest.fixture
def golden():
    return GOLDEN
