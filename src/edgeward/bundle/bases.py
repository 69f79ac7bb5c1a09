"""What an image stands on, Python and a C library: from a registry, a layout on disk, or Debian's packages."""

import gzip
import hashlib
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from edgeward.bundle.layout import INDEX_TYPE, MANIFEST_TYPE
from edgeward.bundle.registry import Reference, fetch, parse
from edgeward.kit import debian
from edgeward.kit.blobs import Blobs
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.kit.wheels import Abi

ARCHES = {"amd64": "x86_64", "arm64": "aarch64"}
"""As images and Debian name processors, and as the kernel does."""
_CACHE = Path(".cache") / "edgeward" / "bases"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_GZIPPED = ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip")
_PYTHON = re.compile(r"(?:\./)?((?:usr/)?(?:local/)?bin/python3\.(\d+))")
_LIBC = re.compile(r"(?:\./)?(?:usr/)?lib(?:64|/[^/]+)?/libc\.so\.6")
_LIBC_VERSION = re.compile(rb"release version 2\.(\d+)")
_LIMIT_BYTES = 4_000_000


class Layer(NamedTuple):
    """`inner` is the digest of the tar in it."""

    path: Path
    digest: str
    size: int
    inner: str
    media_type: str = LAYER_TYPE


class Base(NamedTuple):
    """The layers of one processor below ours, and what they bring: `python` is the interpreter's path. `digest` is that
    of its manifest, "" where it was made here."""

    name: str
    digest: str
    arch: str
    layers: tuple[Layer, ...]
    environment: tuple[str, ...]
    variant: str | None
    python: str
    abi: Abi
    has_users: bool


class _Platform(msgspec.Struct, frozen=True):
    architecture: str
    os: str = "linux"
    variant: str | None = None


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int
    platform: _Platform | None = None
    annotations: Mapping[str, str] = {}


class _Index(msgspec.Struct, frozen=True):
    manifests: tuple[_Descriptor, ...]


class _Manifest(msgspec.Struct, frozen=True):
    config: _Descriptor
    layers: tuple[_Descriptor, ...]


class _RootFs(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...]


class _Config(msgspec.Struct, frozen=True):
    architecture: str
    rootfs: _RootFs
    variant: str | None = None
    config: dict[str, Any] | None = None


def open_base(reference: str, arch: str, *, anew: bool = False) -> Base:
    """The base `reference` for the processor `arch`. Raises WrongInput where it has none, Unsupported where nothing of
    ours runs on it."""
    kind, _, rest = reference.partition(":")
    if kind == "debian":
        made = debian.layer(rest or debian.DEFAULT, arch, anew=anew)
        return _looked_at(f"debian:{rest or debian.DEFAULT}", "", arch, (Layer(*made),), (), None)
    if kind == "oci":
        return _from_layout(reference, Path(rest), arch)
    return _from_registry(reference, arch, anew=anew)


def _from_registry(text: str, arch: str, *, anew: bool) -> Base:
    """Of a tag, what was brought the first time; of a digest there is nothing newer."""
    try:
        reference = parse(text)
    except WrongInput:
        reference = None
    if not isinstance(reference, Reference):
        raise WrongInput(
            f"--base {text}: is neither debian nor oci:FOLDER, nor an image HOST/NAME:TAG",
            hint="--base registry-1.docker.io/library/python:3.13-slim",
        )
    key = hashlib.sha256(f"{text} {arch}".encode()).hexdigest()[:32]
    folder = Path.home() / _CACHE / key
    if anew or not (folder / "index.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        fetch(reference, folder, choose=lambda data: _digest_for(data, arch, text))
    return _from_layout(f"oci:{folder}", folder, arch)._replace(name=text)


def _digest_for(index: bytes, arch: str, where: str) -> str:
    """The manifest for `arch` in an index."""
    for one in _decoded(index, _Index, where).manifests:
        if one.platform is not None and (one.platform.os, one.platform.architecture) == ("linux", arch):
            return str(one.digest)
    raise WrongInput(f"{where}: has no image for linux/{arch}")


def _from_layout(reference: str, folder: Path, arch: str) -> Base:
    tag = None
    if not folder.is_dir() and ":" in folder.name:
        head, _, tag = folder.name.rpartition(":")
        folder = folder.with_name(head)
    if not (folder / "index.json").is_file():
        raise WrongInput(f"{folder}: is no OCI image layout: there is no index.json in it")
    blobs = Blobs(folder)
    entries = _decoded((folder / "index.json").read_bytes(), _Index, reference).manifests
    if tag is not None:
        entries = tuple(one for one in entries if one.annotations.get("org.opencontainers.image.ref.name") == tag)
    found = _of_arch(blobs, entries, arch, reference)
    if found is None:
        raise WrongInput(f"{reference}: has no image for linux/{arch}")
    descriptor, manifest, config = found
    layers = tuple(
        Layer(blobs.path(one.digest), one.digest, one.size, inner, _oci_type(one.media_type, reference))
        for one, inner in zip(manifest.layers, config.rootfs.diff_ids, strict=True)
    )
    for layer in layers:
        blobs.check(layer.digest, layer.size)
    said = (config.config or {}).get("Env") or ()
    return _looked_at(reference, descriptor.digest, arch, layers, tuple(map(str, said)), config.variant)


def _of_arch(
    blobs: Blobs, entries: Iterable[_Descriptor], arch: str, where: str
) -> tuple[_Descriptor, _Manifest, _Config] | None:
    for one in entries:
        if one.size > _LIMIT_BYTES:
            raise WrongInput(f"{where}: a manifest says it has {one.size} bytes, allowed are {_LIMIT_BYTES}")
        if one.media_type in (INDEX_TYPE, _DOCKER_INDEX):
            inner = _decoded(blobs.get(one.digest, one.size), _Index, where)
            if found := _of_arch(blobs, inner.manifests, arch, where):
                return found
        elif one.media_type in (MANIFEST_TYPE, _DOCKER_MANIFEST):
            if one.platform is not None and (one.platform.os, one.platform.architecture) != ("linux", arch):
                continue
            manifest = _decoded(blobs.get(one.digest, one.size), _Manifest, where)
            config = _decoded(blobs.get(manifest.config.digest, manifest.config.size), _Config, where)
            if config.architecture == arch:
                return one, manifest, config
    return None


def _oci_type(media_type: str, where: str) -> str:
    if media_type not in _GZIPPED:
        raise Unsupported(
            f"{where}: a layer is {media_type}, wanted one that gzip packed",
            hint="skopeo copy --dest-compress-format gzip oci:FOLDER oci:other",
        )
    return LAYER_TYPE


def _looked_at(
    name: str, digest: str, arch: str, layers: tuple[Layer, ...], environment: tuple[str, ...], variant: str | None
) -> Base:
    """With what is found in its layers; the last one that has a file counts."""
    python: tuple[str, int] | None = None
    glibc, has_users = None, False
    for layer in layers:
        with gzip.open(layer.path) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
            for member in archive:
                if (found := _PYTHON.fullmatch(member.name)) and not member.isdir():
                    python = f"/{found[1]}", int(found[2])
                elif _LIBC.fullmatch(member.name) and member.isreg():
                    glibc = _version(archive.extractfile(member)) or glibc
                has_users = has_users or member.name.removeprefix("./") == "etc/passwd"
    if python is None:
        raise Unsupported(f"{name}: has no Python 3", hint="--base debian, or an image such as python:3.13-slim")
    if glibc is None:
        raise Unsupported(f"{name}: has no glibc, which the wheels of the runtimes want", hint="--base debian")
    abi = Abi(ARCHES[arch], (3, python[1]), glibc)
    return Base(name, digest, arch, layers, environment, variant, python[0], abi, has_users)


def _version(file: IO[bytes] | None) -> int | None:
    found = _LIBC_VERSION.search(file.read()) if file else None
    return int(found[1]) if found else None


def _decoded(data: bytes, kind: Any, where: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise WrongInput(f"{where}: is no image that we understand: {error}") from None
