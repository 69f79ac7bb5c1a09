"""Variants: joined, pushed to a real registry, and the one that fits brought back alone."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "faults"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "agent"))
from agent_parts import make
from registries import needs_registry, registry

from edgeward import bundle
from edgeward.bundle.registry import Reference, fetch, push
from edgeward.bundle.resolve import Device, choose
from edgeward.bundle.variants import join
from edgeward.kit.errors import Refused, Unsupported, WrongInput


@pytest.fixture
def key(tmp_path: Path) -> bundle.SigningKey:
    return bundle.create_key(tmp_path / "a.key")


@pytest.fixture
def trust(key: bundle.SigningKey) -> bundle.Trust:
    return bundle.trusted_keys([bundle.public_path_of(key.path)])


@needs_registry
def test_the_variant_that_fits_comes_alone_and_signed(tmp_path: Path, key, trust) -> None:
    one, other = make(tmp_path / "one", key), make(tmp_path / "other", key, gain=2.5)
    digest = join([one, other], tmp_path / "all", trust)
    device = Device("here", {"echo": "1"}, 1 << 30)
    with registry(tmp_path / "registry") as host:
        done = push(tmp_path / "all", Reference(host, "doubler", "1"))
        assert done.reference.digest == digest
        (tmp_path / "got").mkdir()
        found = fetch(Reference(host, "doubler", "1"), tmp_path / "got", choose=lambda raw: choose(raw, device))
        assert bundle.verify(tmp_path / "got", trust).bundle.digest == found.digest
        assert found.digest in {bundle.peek(folder).digest for folder in (one, other)}
        with pytest.raises(Unsupported, match="echo does not run on bare"):
            fetch(Reference(host, "doubler", "1"), tmp_path, choose=lambda raw: choose(raw, Device("bare", {}, 1)))


def test_what_does_not_belong_together_is_told(tmp_path: Path, key, trust) -> None:
    one, newer = make(tmp_path / "one", key), make(tmp_path / "newer", key, "2.0.0")
    with pytest.raises(WrongInput, match=r"one model in one version; these are doubler 1\.0\.0, doubler 2\.0\.0"):
        join([one, newer], tmp_path / "all", trust)
    with pytest.raises(WrongInput, match="named twice"):
        join([one, one], tmp_path / "all", trust)
    with pytest.raises(Refused, match="is not signed"):
        join([one, make(tmp_path / "unsigned", None)], tmp_path / "all", trust)
    assert not (tmp_path / "all").exists()
