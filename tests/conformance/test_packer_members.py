"""One suite over every packer: equal input gives equal bytes, and each file has one place."""

from pathlib import Path

import pytest

from edgeward import bundle
from edgeward.bundle import packers

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


@pytest.fixture(scope="module")
def verified() -> bundle.VerifiedBundle:
    return bundle.verify(GOLDEN / "bundle-v1-good", bundle.trusted_keys([GOLDEN / "signer.pub"]))


@pytest.mark.parametrize("name", packers.names())
def test_a_packer_is_pure_and_names_each_file_once(verified: bundle.VerifiedBundle, name: str) -> None:
    service = packers.Service("/opt/edgeward/bin/python", "/var/lib/edgeward/services/golden/current")
    packed = packers.load(name).pack(verified, service)
    assert packed == packers.load(name).pack(verified, service)
    paths = [one.path for one in packed]
    assert len(set(paths)) == len(paths) > 0
    assert not any(".." in Path(path).parts for path in paths)


@pytest.mark.parametrize("name", packers.names())
def test_telemetry_is_off_in_what_it_writes(verified: bundle.VerifiedBundle, name: str) -> None:
    service = packers.Service("/opt/edgeward/bin/python", "/bundle")
    assert any(b"ORT_DISABLE_TELEMETRY" in one.data for one in packers.load(name).pack(verified, service))
