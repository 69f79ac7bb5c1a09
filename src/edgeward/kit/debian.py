"""A minimal Debian with Python and nothing else, no shell either, made by mmdebstrap without running any of it."""

import gzip
import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from edgeward.kit.bytecode import OF_LIBRARY, is_made_for, with_bytecode
from edgeward.kit.errors import Unavailable, Unsupported, WrongInput
from edgeward.kit.tars import FORMAT, Archive, Entry, tar_gz
from edgeward.kit.wheels import Abi

DEFAULT = "bookworm"
_PYTHONS = {"bookworm": (11, 36), "trixie": (13, 41)}
"""Of each Debian, the second numbers of its Python and its glibc."""
_LOADERS = {"x86_64": ("amd64", "ld-linux-x86-64.so.2"), "aarch64": ("arm64", "ld-linux-aarch64.so.1")}
"""What Debian calls a processor, and what starts its programs."""
_VERSION = 3
"""Counts the changes of what is put in beside the packages: what was made by others is made anew."""
_CACHE = Path(".cache") / "edgeward" / "bases"
_LEFT_OUT = re.compile(
    r"usr/share/(?!doc/[^/]+/copyright$|zoneinfo).*"  # licences stay
    r"|var/(cache|log|lib/(apt|dpkg))/.*|etc/(apt|dpkg|cron\.[a-z]+|logrotate\.d|python3)/.*"
    r"|(usr/)?s?bin/(dpkg.*|tar|start-stop-daemon|update-alternatives|py3.*|rmt-tar|tarcat)|usr/sbin/.*"
    r"|usr/lib/[^/]+/(gconv|perl-base)/.*|(usr/)?lib/(dpkg|systemd|tmpfiles\.d)/.*"
    r"|usr/lib/python3[.\d]*/(test|pydoc_data|idlelib|tkinter|turtledemo|ensurepip|lib2to3|distutils)/.*"
    r"|(usr/)?lib/[^/]+/lib(db-5|readline|krb5|gssapi_krb5|k5crypto|krb5support|ncursesw|nsl|tirpc)[-.\d].*"
)
"""Of the packages that we name and those that these need: what makes packages, texts in other languages, libraries
of parts of Python that nothing here imports."""
_CHANGELOG = re.compile(
    r"usr/share/doc/((?!lib(?:db5|gssapi|k5|krb5|nsl|readline|tirpc|ncurses))[^/]+)/changelog\.Debian\.gz"
)
_PLACES = (
    *(Entry(f"{name}/", mode=0o755) for name in ("dev", "proc", "sys", "run")),
    *(Entry(f"{name}/", mode=0o1777) for name in ("tmp", "var/tmp")),
)
_USERS = (
    Entry("etc/passwd", b"root:x:0:0:root:/root:/sbin/nologin\nedgeward:x:65532:65532::/tmp:/sbin/nologin\n"),
    Entry("etc/group", b"root:x:0:\nvideo:x:44:\nrender:x:105:\nedgeward:x:65532:\n"),
    Entry("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n"),
)


class Brought(NamedTuple):
    """A Python with its C library for a device whose own is too old. `program` is the text of what starts it there: in
    it "{root}" is where the archive lies, "{program}" that text's own place."""

    archive: Archive
    program: str
    abi: Abi


def brought(arch: str) -> Brought:
    """For processors as the kernel names them. Raises Unsupported for one that has none, or where it cannot be made."""
    if arch not in _LOADERS:
        raise Unsupported(f"there is no Python to bring along for {arch}")
    name, loader = _LOADERS[arch]
    own, triplet = abi(DEFAULT, arch), f"{arch}-linux-gnu"
    # Its loader is started by name, so that nothing of the device's own C library is asked for.
    program = (
        f"#!/bin/sh\nexport PYTHONHOME={{root}}/usr\nexec {{root}}/lib/{triplet}/{loader} --argv0 {{program}} "
        f"--library-path {{root}}/lib/{triplet}:{{root}}/usr/lib/{triplet} "
        f'{{root}}/usr/bin/python{own.python[0]}.{own.python[1]} "$@"\n'
    )
    return Brought(layer(DEFAULT, name), program, own)


def layer(suite: str, arch: str, *, anew: bool = False) -> Archive:
    """Debian's `suite` for `arch` as one layer, made once and kept below ~/.cache/edgeward."""
    python = abi(suite, "any").python
    packages = f"python3-minimal,libpython{python[0]}.{python[1]}-stdlib,libgomp1,libstdc++6"
    rules = (_VERSION, FORMAT, packages, _LEFT_OUT.pattern, _PLACES, _USERS, is_made_for(python), OF_LIBRARY.pattern)
    key = hashlib.sha256(repr(rules).encode()).hexdigest()[:12]
    folder = Path.home() / _CACHE
    path = folder / f"debian-{suite}-{arch}-{key}.tar.gz"
    if path.is_file() and not anew:
        return _read(path)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        made = Path(beside) / "root.tar"
        _bootstrap(suite, arch, packages, made)
        packed = tar_gz(with_bytecode(_entries(made, arch), python), path)
    for other in folder.glob(f"debian-{suite}-{arch}-*.tar.gz"):
        if other != path:
            other.unlink(missing_ok=True)  # made by other rules: another edgeward makes it anew
    return packed


def abi(suite: str, arch: str) -> Abi:
    """What wheels for its own Python are chosen by. Raises WrongInput for a Debian that we do not know."""
    if suite not in _PYTHONS:
        raise WrongInput(f"Debian {suite!r} is not known; there are {', '.join(_PYTHONS)}")
    python, glibc = _PYTHONS[suite]
    return Abi(arch, (3, python), glibc)


def _bootstrap(suite: str, arch: str, packages: str, made: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise Unsupported(
            "a minimal Debian is made by mmdebstrap, which is not here",
            hint="sudo apt-get install mmdebstrap, or take another base: --base oci:FOLDER",
        )
    command = ["mmdebstrap", "-q", f"--arch={arch}", "--variant=extract", f"--include={packages}", suite, str(made)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        reason = next(
            (line for line in reversed(said) if line.startswith("E:")), said[-1] if said else "it said nothing"
        )
        raise Unavailable(f"Debian's packages for {arch} cannot be had: {reason}", hint=" ".join([*command[:-1], "-"]))


def _entries(root: Path, arch: str) -> Iterator[Entry]:
    """What is kept. Since Debian 13 packages have nothing outside of /usr; another one makes the links to it."""
    tops = set[str]()
    with tarfile.open(root) as archive:
        for member in archive:
            path = member.name.removeprefix("./")
            if (found := _CHANGELOG.fullmatch(path)) and member.isfile():
                yield _told(found[1], arch, archive.extractfile(member))
            if member.isdir() or _LEFT_OUT.fullmatch(path) or not (member.issym() or member.isfile() or member.islnk()):
                continue
            tops.add(path.partition("/")[0])
            if member.issym():
                yield Entry(path, link=member.linkname)
            elif (file := archive.extractfile(member)) is not None:
                yield Entry(path, file.read(), member.mode & 0o755)
    yield from (Entry(name, link=f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin") if name not in tops)
    yield from _PLACES
    yield from _USERS


def _told(package: str, arch: str, changelog: IO[bytes] | None) -> Entry:
    """What tells a scanner that this package is in the image, in the place where images without dpkg have it."""
    with gzip.open(changelog) as lines:  # type: ignore[arg-type]
        source, version = re.match(r"(\S+) \(([^)]+)\)", lines.readline().decode(errors="replace")).groups()  # type: ignore[union-attr]
    said = f"Package: {package}\nStatus: install ok installed\nSource: {source}\nVersion: {version}\n"
    return Entry(f"var/lib/dpkg/status.d/{package}", f"{said}Architecture: {arch}\n".encode())


def _read(path: Path) -> Archive:
    """A kept layer, with its digests."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with gzip.open(path) as file:
        inner = hashlib.file_digest(file, "sha256").hexdigest()
    return Archive(path, f"sha256:{digest}", path.stat().st_size, f"sha256:{inner}")
