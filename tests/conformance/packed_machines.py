"""Small machines to pack for: whole archives and a base on disk, of a few bytes each."""

from pathlib import Path

from edgeward.bundle import closure
from edgeward.bundle.bases import ARCHES, Base, Layer
from edgeward.bundle.packers import Machine
from edgeward.kit.tars import Archive, Entry, tar_gz
from edgeward.kit.wheels import Abi


def machine(folder: Path, arch: str) -> Machine:
    abi = Abi(ARCHES[arch], (3, 11), 36)
    site = closure.site_packages(abi)
    parts = (
        _archive(folder, f"runtime-{arch}", f"{site}/numpy.py"),
        _archive(folder, f"own-{arch}", f"{site}/edgeward.py"),
    )
    below = _archive(folder, f"base-{arch}", "usr/bin/python3.11")
    layer = Layer(below.path, below.digest, below.size, below.inner)
    base = Base(
        "debian:bookworm", "", arch, (layer,), ("LANG=C.UTF-8",), None, "/usr/bin/python3.11", abi, has_users=False
    )
    return Machine(arch, abi, parts, closure.environment(abi, base.python), base)


def _archive(folder: Path, name: str, path: str) -> Archive:
    return tar_gz([Entry(path, name.encode())], folder / f"{name}.tar.gz")
