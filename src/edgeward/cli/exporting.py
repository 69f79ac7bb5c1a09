"""Stands between the disk and a packer, which sees none: reads the bundle, gathers the machines' parts, writes."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeward.bundle import Trust, VerifiedBundle, closure, verify
from edgeward.bundle.bases import ARCHES, open_base
from edgeward.bundle.packers import Machine, PackedFile
from edgeward.cli.console import size
from edgeward.kit import debian, files
from edgeward.kit.errors import WrongInput
from edgeward.kit.wheels import Abi

HOME = closure.HOME
PLACE = "/usr/lib/edgeward/bundles/{}"
"""Where a package has its bundle."""
_SYSTEM_PYTHON = "/usr/bin/python3"

Tell = Callable[[str, float], None]


def copied(folder: Path, trust: Trust) -> tuple[VerifiedBundle, tuple[PackedFile, ...]]:
    """The bundle's files in memory, and the bundle verified as these very bytes."""
    verify(folder, trust)
    blobs = sorted(path.name for path in (folder / "blobs/sha256").iterdir() if len(path.name) == 64)
    paths = ["oci-layout", "index.json", *(f"blobs/sha256/{name}" for name in blobs)]
    contents = []
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "blobs/sha256").mkdir(parents=True)
        for path in paths:
            with files.open_regular(folder / path) as file:
                data = file.read()
            (Path(work) / path).write_bytes(data)
            contents.append(PackedFile(path, data))
        return verify(Path(work), trust), tuple(contents)


def machine(
    arch: str, runtime: str, base: str, *, extras: Sequence[str], only_in: Path | None, fresh: bool,
    stands_on_base: bool, tell: Tell,
) -> Machine:  # fmt: skip
    """All that runs on one processor besides the bundle."""
    tell(f"{arch}: looking at {base}", 0.0)
    under = open_base(base, arch, anew=fresh) if stands_on_base else None
    abi, python = (under.abi, under.python) if under else (_abi_of(base, arch), _SYSTEM_PYTHON)
    tell(f"{arch}: fetching wheels for {abi.words}", 0.2)
    found = closure.closure_of(abi, runtime, extras=extras, only_in=only_in, anew=fresh)
    tell(f"{arch}: packing {len(found.packages)} packages", 0.4)
    parts = (closure.dependencies(found), closure.own(abi))
    return Machine(arch, abi, parts, closure.environment(abi, python), under)


def _abi_of(base: str, arch: str) -> Abi:
    """That of Debian's own Python, for a package that it installs."""
    name, _, suite = base.partition(":")
    if name != "debian":
        raise WrongInput(f"--base {base}: a package is for a Debian", hint="--base debian:bookworm")
    return debian.abi(suite or debian.DEFAULT, ARCHES[arch])


def write(packed: Sequence[PackedFile], target: Path, *, overwrite: bool) -> None:
    """All of them, or none."""
    with files.new_folder(target, overwrite=overwrite) as work:
        for one in packed:
            place = work / one.path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if one.origin is None:
                place.write_bytes(one.data)
            else:
                shutil.copyfile(one.origin, place)
            place.chmod(one.mode)


def image_digest(target: Path) -> str | None:
    """That of the image index, where an image was written."""
    if not (target / "oci-layout").is_file():
        return None
    return str(json.loads((target / "index.json").read_bytes())["manifests"][0]["digest"])


def sizes(target: Path) -> Iterator[str]:
    """Each processor's image: its layers, packed, as a registry would have them."""
    for one in _blob(target, image_digest(target) or "")["manifests"]:
        layers = [layer["size"] for layer in _blob(target, one["digest"])["layers"]]
        base, ours = layers[:-4], layers[-4:]
        named = zip(("runtime", "edgeward", "environment", "bundle"), ours, strict=True)
        told = ", ".join(f"{name} {size(count)}" for name, count in (("base", sum(base)), *named))
        yield f"{one['platform']['architecture']:6} {size(sum(layers))}: {told}"


def _blob(target: Path, digest: str) -> Any:
    return json.loads((target / "blobs" / digest.replace(":", "/")).read_bytes())


def next_steps(form: str, target: Path, name: str) -> Sequence[str]:
    """Commands for a person who has the result."""
    known = {
        "oci-image": (
            f'podman tag "$(podman pull -q oci:{target})" localhost/edgeward-{name}:1',
            f"edgeward push {target} REGISTRY/{name}:1",
        ),
        "model-image": (f"edgeward push {target} REGISTRY/{name}-model:1",),
        "containerfile": (f"podman build -t localhost/edgeward-{name}:1 {target}",),
        "quadlet": (f"sudo cp {target}/*.container /etc/containers/systemd/ && sudo systemctl daemon-reload",),
        "compose": (f"docker compose -f {target}/compose.yaml up -d",),
        "kubernetes": (f"kubectl apply -f {target}/daemonset.yaml", f"podman kube play {target}/pod.yaml"),
        "helm": (f"helm install {name} {target}/edgeward-{name}",),
        "deb": (f"sudo dpkg --install {target}/*_amd64.deb {target}/*_all.deb",),
    }
    return known.get(form, ())
