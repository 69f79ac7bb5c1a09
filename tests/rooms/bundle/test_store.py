"""Where a machine keeps its bundles: verified copies, one link for each service, nothing half-done."""

import shutil
from pathlib import Path

import pytest

from edgeward import bundle
from edgeward.bundle.store import Store
from edgeward.kit.errors import Refused, Unavailable

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
GOOD = GOLDEN / "bundle-v1-good"


@pytest.fixture
def trust() -> bundle.Trust:
    return bundle.trusted_keys([GOLDEN / "signer.pub"])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_bundle_is_found_by_its_digest_and_a_repeat_is_harmless(store: Store, trust: bundle.Trust) -> None:
    digest = store.put(GOOD, trust)
    store.switch("golden", digest)
    assert bundle.verify(store.link_of("golden"), trust).bundle.digest == digest == store.current("golden")
    before = sorted(store.root.rglob("*"))
    assert store.put(GOOD, trust) == digest
    store.switch("golden", digest)
    assert sorted(store.root.rglob("*")) == before
    assert all(path.stat().st_mode & 0o004 for path in before)


def test_a_damaged_copy_is_put_anew(store: Store, trust: bundle.Trust) -> None:
    digest = store.put(GOOD, trust)
    blob = next(store.folder_of(digest).glob("blobs/sha256/*"))
    blob.write_bytes(b"")
    assert store.put(GOOD, trust) == digest
    assert blob.read_bytes() != b""


@pytest.mark.parametrize("case", ["flipped-bit-model", "truncated-model", "unsigned", "wrong-key", "path-escape"])
def test_what_is_refused_leaves_nothing(store: Store, trust: bundle.Trust, case: str) -> None:
    with pytest.raises(Refused):
        store.put(GOLDEN / f"bundle-v1-{case}", trust)
    assert not list(store.root.glob("bundles/*"))


def test_a_link_among_the_blobs_is_not_followed(store: Store, trust: bundle.Trust, tmp_path: Path) -> None:
    shutil.copytree(GOOD, tmp_path / "linked")
    (tmp_path / "linked" / "blobs" / "sha256" / ("a" * 64)).symlink_to("/etc/shadow")
    with pytest.raises(Refused, match="is a link"):
        store.put(tmp_path / "linked", trust)
    assert not list(store.root.glob("bundles/*"))


def test_only_bundles_that_no_service_uses_are_pruned(store: Store, trust: bundle.Trust) -> None:
    digest = store.put(GOOD, trust)
    store.switch("golden", digest)
    (store.root / "bundles" / f"sha256-{'0' * 64}").mkdir()
    store.prune()
    assert [path.name for path in store.root.glob("bundles/*")] == [digest.replace(":", "-")]
    store.switch("golden", None)
    store.prune()
    assert store.services() == ()
    assert not list(store.root.glob("bundles/*"))


def test_two_deploys_at_once_are_told(store: Store) -> None:
    with store.locked(), pytest.raises(Unavailable, match="another deploy is under way"), Store(store.root).locked():
        pass
