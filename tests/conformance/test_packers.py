"""One suite over every packer: equal input gives equal bytes, and each file has one place."""

import json
import re
from pathlib import Path

import packed_machines
import pytest

from edgeward import bundle
from edgeward.bundle import packers
from edgeward.bundle.packers import PackedFile, Service
from edgeward.kit.codec import digest_of

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
PLACE = GOLDEN / "bundle-v1-good"


@pytest.fixture(scope="module")
def verified() -> bundle.VerifiedBundle:
    return bundle.verify(PLACE, bundle.trusted_keys([GOLDEN / "signer.pub"]))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    folder = tmp_path_factory.mktemp("machines")
    files = [path for path in sorted(PLACE.rglob("*")) if path.is_file()]
    contents = tuple(PackedFile(str(path.relative_to(PLACE)), path.read_bytes()) for path in files)
    machines = tuple(packed_machines.machine(folder, arch) for arch in ("amd64", "arm64"))
    within = (PackedFile("/etc/systemd/system/edgeward-golden.service", b"Environment=ORT_DISABLE_TELEMETRY=1\n"),)
    own = packers.Service("/opt/edgeward/bin/python", "/var/lib/edgeward/services/golden/current")
    return own._replace(contents=contents, machines=machines, within=within)


@pytest.mark.parametrize("name", packers.names())
def test_a_packer_is_pure_and_names_each_file_once(
    verified: bundle.VerifiedBundle, service: Service, name: str
) -> None:
    packed = packers.load(name).pack(verified, service)
    assert packed == packers.load(name).pack(verified, service)
    paths = [one.path for one in packed]
    assert len(set(paths)) == len(paths) > 0
    assert not any(".." in Path(path).parts for path in paths)
    assert all(bool(one.data) != bool(one.origin) for one in packed)


@pytest.mark.parametrize("name", packers.names())
def test_telemetry_is_off_in_what_it_writes(verified: bundle.VerifiedBundle, service: Service, name: str) -> None:
    packed = packers.load(name).pack(verified, service)
    if name == "deb":
        assert any(
            b"edgeward-golden.service" in _control(one.data) for one in packed
        )  # the unit's own text, compressed
        return
    assert any(b"ORT_DISABLE_TELEMETRY" in one.data for one in packed)


@pytest.mark.parametrize("path", sorted((GOLDEN / "forms").rglob("*.*")), ids=lambda path: path.name)
def test_what_starts_a_container_is_as_it_was(verified: bundle.VerifiedBundle, path: Path) -> None:
    """`make golden` writes them anew; the difference is reviewed like code."""
    if path.is_dir():
        return
    form, place = path.relative_to(GOLDEN / "forms").parts[0], str(Path(*path.relative_to(GOLDEN / "forms").parts[1:]))
    packed = packers.load(form).pack(verified, packers.Service("", "", threads=2))
    assert {one.path: one.data.decode() for one in packed}[place] == path.read_text()


def test_every_blob_of_an_image_is_there_under_its_digest(verified: bundle.VerifiedBundle, service: Service) -> None:
    packed = {one.path: one for one in packers.load("oci-image").pack(verified, service)}
    blobs = {path: _bytes(one) for path, one in packed.items() if path.startswith("blobs/")}
    assert {path: digest_of(data) for path, data in blobs.items()} == {
        path: path.removeprefix("blobs/").replace("/", ":") for path in blobs
    }
    named = set(
        re.findall(
            r"sha256:[0-9a-f]{64}",
            b"".join(one.data for one in packed.values() if not one.origin and one.data[:1] == b"{").decode(),
        )
    )
    unknown = {digest for digest in named if f"blobs/{digest.replace(':', '/')}" not in blobs}
    top = json.loads(packed["index.json"].data)["manifests"][0]
    index = json.loads(blobs[f"blobs/{top['digest'].replace(':', '/')}"])
    assert [one["platform"]["architecture"] for one in index["manifests"]] == ["amd64", "arm64"]
    inner = set()
    for one in index["manifests"]:
        manifest = json.loads(blobs[f"blobs/{one['digest'].replace(':', '/')}"])
        config = json.loads(blobs[f"blobs/{manifest['config']['digest'].replace(':', '/')}"])
        assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"]) == 5
        inner |= set(config["rootfs"]["diff_ids"])
    assert unknown <= inner | {verified.bundle.digest}, "a digest without its bytes"


def _bytes(one: PackedFile) -> bytes:
    return one.origin.read_bytes() if one.origin else one.data


def _control(deb: bytes) -> bytes:
    """What dpkg reads of a package first."""
    import gzip

    start = deb.index(b"control.tar.gz") + 60
    size = int(deb[start - 12 : start - 2])
    return gzip.decompress(deb[start : start + size])
