"""An OCI image layout on disk: `oci-layout`, `index.json` and blobs. Reads nothing it was not told the size of."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, TypeVar

from edgeward.kit import codec, files
from edgeward.kit.blobs import Blobs
from edgeward.kit.errors import Refused, WrongInput
from edgeward.records.base import Bytes, Digest, Record

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
MODEL_TYPE: Final = "application/vnd.cncf.model.manifest.v1+json"
SIGNATURE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
DOC_TYPE: Final = "application/vnd.cncf.model.doc.v1.raw"
FILE_PATH = "org.cncf.model.filepath"

INDEX_LIMIT_BYTES = 1_000_000
MANIFEST_LIMIT_BYTES = 1_000_000
ENTRY_LIMIT = 64

T = TypeVar("T")


class OciDescriptor(Record, rename="camel", omit_defaults=True):
    """Some bytes as an OCI manifest or index names them."""

    media_type: str
    digest: Digest
    size: Bytes
    artifact_type: str | None = None
    annotations: Mapping[str, str] = {}
    data: str | None = None


class OciManifest(Record, rename="camel", omit_defaults=True):
    """An artifact: its config, its files, and what it belongs to."""

    schema_version: Literal[2]
    media_type: Literal["application/vnd.oci.image.manifest.v1+json"]
    config: OciDescriptor
    layers: tuple[OciDescriptor, ...]
    artifact_type: str | None = None
    subject: OciDescriptor | None = None
    annotations: Mapping[str, str] = {}


class OciIndex(Record, rename="camel", omit_defaults=True):
    """The layout's table of contents. It is not signed; what it lists is, by digest."""

    schema_version: Literal[2]
    manifests: tuple[OciDescriptor, ...]
    media_type: Literal["application/vnd.oci.image.index.v1+json"] | None = None


class _LayoutMark(Record, rename="camel"):
    image_layout_version: Literal["1.0.0"]


class _Kind(Record, rename="camel"):
    """Of a manifest that is not verified yet, only what it claims to be."""

    artifact_type: str | None = None


class Layout:
    """An existing layout folder. Every read is checked against its digest, and follows no link inside it."""

    def __init__(self, folder: Path) -> None:
        """Raises WrongInput when there is no layout in `folder`, Refused when its marks were altered."""
        self.folder = folder
        self._blobs = Blobs(folder)
        _check_is_layout(folder)
        decode(_read_small(folder / "oci-layout", 4096), _LayoutMark, str(folder / "oci-layout"))
        for part in (folder / "blobs", folder / "blobs" / "sha256"):
            if part.is_symlink():
                raise Refused(f"{part}: is a link; a bundle holds its own files")

    def index(self) -> OciIndex:
        """The table of contents as it stands now."""
        where = self.folder / "index.json"
        index = decode(_read_small(where, INDEX_LIMIT_BYTES), OciIndex, str(where))
        if len(index.manifests) > ENTRY_LIMIT:
            raise Refused(f"{where}: lists {len(index.manifests)} manifests, allowed are {ENTRY_LIMIT}")
        return index

    def manifests(self) -> Iterator[tuple[OciDescriptor, str | None, bytes]]:
        """Every manifest the index lists: its entry, its artifact type and its bytes, checked."""
        for entry in self.index().manifests:
            if entry.media_type != MANIFEST_TYPE:
                raise Refused(f"{self.folder}/index.json: lists a {entry.media_type}; wanted {MANIFEST_TYPE}")
            raw = self.read(entry, "a manifest", limit_bytes=MANIFEST_LIMIT_BYTES)
            kind = decode(raw, _Kind, f"{self.folder}: manifest {entry.digest}").artifact_type
            if entry.artifact_type is not None and entry.artifact_type != kind:
                raise Refused(
                    f"{self.folder}/index.json: altered: calls {entry.digest} a {entry.artifact_type}, it is a {kind}"
                )
            yield entry, kind, raw

    def read(self, descriptor: OciDescriptor, what: str, *, limit_bytes: int | None = None) -> bytes:
        """The bytes of `descriptor`, checked. Raises Refused that names `what`."""
        if limit_bytes is not None and descriptor.size > limit_bytes:
            raise Refused(f"{self.folder}: {what}: says it has {descriptor.size} bytes, allowed are {limit_bytes}")
        try:
            return self._blobs.get(descriptor.digest, descriptor.size)
        except Refused as fault:
            raise self._named(fault, descriptor, what) from None

    def check(self, descriptor: OciDescriptor, what: str) -> None:
        """Raises Refused unless the bytes of `descriptor` are there and unaltered; keeps none of them."""
        try:
            self._blobs.check(descriptor.digest, descriptor.size)
        except Refused as fault:
            raise self._named(fault, descriptor, what) from None

    def _named(self, fault: Refused, descriptor: OciDescriptor, what: str) -> Refused:
        """The fault of a blob, told by the name of the file that it is."""
        reason = fault.message.removeprefix(f"{self._blobs.path(descriptor.digest)}: ")
        return Refused(f"{self.folder}: {what} ({descriptor.digest[:19]}…): {reason}")

    def put(self, data: bytes, media_type: str, annotations: Mapping[str, str] = MappingProxyType({})) -> OciDescriptor:
        """Stores `data` and describes it."""
        return OciDescriptor(
            media_type=media_type, digest=self._blobs.put(data), size=len(data), annotations=dict(annotations)
        )

    def write_index(self, index: OciIndex) -> None:
        """Replaces the table of contents: whole, or not at all."""
        files.write_atomic(self.folder / "index.json", codec.to_canonical_json(index))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While it lasts, no other process of ours changes this layout."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def create(folder: Path) -> Layout:
    """An empty layout in the existing folder `folder`."""
    files.write_atomic(folder / "oci-layout", codec.to_json({"imageLayoutVersion": "1.0.0"}))
    empty = OciIndex(schema_version=2, media_type=INDEX_TYPE, manifests=())
    files.write_atomic(folder / "index.json", codec.to_canonical_json(empty))
    return Layout(folder)


def find_bundle(path: Path) -> Path:
    """The bundle's folder: `path` itself, or `bundle/` inside what optimize wrote. Raises WrongInput for neither."""
    if (path / "oci-layout").exists() or (path / "index.json").exists():
        return path
    if (path / "bundle" / "oci-layout").exists():
        return path / "bundle"
    _check_is_layout(path)
    return path


def decode(data: bytes, kind: type[T], where: str) -> T:
    """A record from JSON that came with the bundle. Raises Refused that names `where`."""
    try:
        return codec.from_json(data, kind, where)
    except WrongInput as fault:
        raise Refused(f"{fault.message} (altered, or made by another program)") from None
    except RecursionError:
        raise Refused(f"{where}: its JSON is nested too deeply") from None


def _check_is_layout(folder: Path) -> None:
    if not folder.exists():
        raise WrongInput(f"{folder}: no such bundle", hint="edgeward optimize MODEL --data DATA -o DIR")
    if not folder.is_dir():
        raise WrongInput(
            f"{folder}: is a file, wanted a bundle's folder", hint=f"edgeward pack {folder} -o {folder}.bundle"
        )
    if not any(folder.iterdir()):
        raise WrongInput(f"{folder}: is an empty folder, wanted a bundle")
    for name in ("oci-layout", "index.json"):
        if not os.path.lexists(folder / name):
            raise WrongInput(f"{folder}: is no bundle: there is no {name} in it")


def _read_small(path: Path, limit_bytes: int) -> bytes:
    """A whole regular file of at most `limit_bytes`."""
    with files.open_regular(path) as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise Refused(f"{path}: is longer than {limit_bytes} bytes")
    return data
