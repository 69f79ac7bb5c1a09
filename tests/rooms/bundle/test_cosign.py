"""The signature that Podman and Skopeo check, judged by Skopeo itself with a policy, from a real registry.

Debian 12 builds its Skopeo without these signatures; that of Debian 13 is unpacked into a folder and run from there.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "faults"))
from registries import needs_registry, registry

from edgeward import bundle
from edgeward.bundle.cosign import sign_for
from edgeward.bundle.registry import Reference, fetch, push

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeward-tests"
pytestmark = [
    needs_registry,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="a program of another Debian is run by chroot, which wants root"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="mmdebstrap is missing: apt-get install mmdebstrap"),
]


@pytest.fixture(scope="module")
def root() -> Path:
    """Debian 13's Skopeo and what it needs, made once."""
    place = CACHE / "debian-13-skopeo"
    if not place.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = CACHE / f"{os.getpid()}.skopeo"
        command = ["mmdebstrap", "-q", "--variant=extract", "--include=skopeo", "trixie", str(partial)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            pytest.skip(f"no Debian packages can be had: {made.stderr.strip().splitlines()[-1]}")
        for name in ("bin", "lib", "lib64"):
            if not (partial / name).exists():
                (partial / name).symlink_to(f"usr/{name}")
        partial.rename(place)
    return place


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry") / "r") as found:
        yield found


def signed(folder: Path, repository: str | None, *keys: bundle.SigningKey) -> Path:
    shutil.copytree(GOLDEN / "bundle-v1-good", folder)
    for key in keys:
        bundle.sign(folder, key)
        if repository is not None:
            sign_for(folder, repository, key)
            sign_for(folder, repository, key)
    return folder


def skopeo(root: Path, host: str, name: str, public: Path) -> "subprocess.CompletedProcess[str]":
    """A copy under a policy that wants the signature of `public` for this very repository."""
    with tempfile.TemporaryDirectory(dir=root / "tmp") as work:
        folder = Path(work)
        inside = Path("/tmp") / folder.name
        shutil.copy(public, folder / "key.pub")
        identity = {"type": "matchRepository"}
        rule = {"type": "sigstoreSigned", "keyPath": f"{inside}/key.pub", "signedIdentity": identity}
        policy = {"default": [{"type": "reject"}], "transports": {"docker": {host: [rule]}}}
        (folder / "policy.json").write_text(json.dumps(policy))
        (folder / "registries.d").mkdir()
        (folder / "registries.d/here.yaml").write_text(f"docker:\n  {host}:\n    use-sigstore-attachments: true\n")
        command = ["chroot", root, "/usr/bin/skopeo", "--policy", f"{inside}/policy.json"]
        command += ["--registries.d", f"{inside}/registries.d", "copy", "--src-tls-verify=false"]
        command += [f"docker://{host}/{name}:1", f"dir:{inside}/out"]
        return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)


def test_skopeo_takes_what_we_signed_by_either_key_and_nothing_else(root: Path, host: str, tmp_path: Path) -> None:
    old, new, stranger = (bundle.create_key(tmp_path / f"{name}.key") for name in ("old", "new", "stranger"))
    push(signed(tmp_path / "good", f"{host}/good", old, new), Reference(host, "good", "1"))
    for key in (old, new):
        done = skopeo(root, host, "good", bundle.public_path_of(key.path))
        assert done.returncode == 0, done.stderr
    refused = skopeo(root, host, "good", bundle.public_path_of(stranger.path))
    assert refused.returncode != 0
    assert "signature" in refused.stderr.lower()


@pytest.mark.parametrize(("name", "repository"), [("unsigned", None), ("moved", "other.example/moved")])
def test_skopeo_refuses_what_is_not_signed_for_its_repository(
    root: Path, host: str, tmp_path: Path, name: str, repository: str | None
) -> None:
    key = bundle.create_key(tmp_path / "a.key")
    push(signed(tmp_path / "b", repository, key), Reference(host, name, "1"))
    assert skopeo(root, host, name, bundle.public_path_of(key.path)).returncode != 0


def test_the_signature_comes_along_and_ours_stays_what_counts_here(host: str, tmp_path: Path) -> None:
    key = bundle.create_key(tmp_path / "a.key")
    push(signed(tmp_path / "b", f"{host}/along", key), Reference(host, "along", "1"))
    (tmp_path / "back").mkdir()
    done = fetch(Reference(host, "along", "1"), tmp_path / "back")
    verified = bundle.verify(tmp_path / "back", bundle.trusted_keys([bundle.public_path_of(key.path)]))
    names = [one.get("annotations", {}).get("org.opencontainers.image.ref.name", "") for one in json.loads(
        (tmp_path / "back/index.json").read_text())["manifests"]]  # fmt: skip
    assert f"{done.digest.replace(':', '-')}.sig" in names
    assert verified.bundle.digest == done.digest
