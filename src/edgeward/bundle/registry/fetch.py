"""Brings a bundle, with what belongs to it, from a registry or a layout into a layout of ours.

A tag is looked up once; after that digests alone are asked for. Every byte is counted and hashed while it comes, and
nothing has its name before it is whole. What a cut connection left is gone on from.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from edgeward.bundle import layout as oci
from edgeward.bundle.registry.client import PLAIN, Access, Parts, Registry, Stored, fallback_tag
from edgeward.bundle.registry.reference import Place, Reference
from edgeward.kit import files
from edgeward.kit.blobs import Blobs
from edgeward.kit.codec import to_canonical_json
from edgeward.kit.errors import Failed, Refused, Unavailable, WrongInput

Choose = Callable[[bytes], str]
"""Of an image index (its bytes) the digest of the manifest that is wanted. What it raises ends the fetch, before any
blob has come."""
Tell = Callable[[int, int], None]
"""Called with the bytes that are there, and all that there will be."""

_PLAIN_HTTP = "http://"
_ENTRIES = 64
_FRUITLESS = 5
"""Connections in a row that were cut before a byte came."""
_REF_NAME = "org.opencontainers.image.ref.name"


class Fetched(NamedTuple):
    """`digest` is what was named: a manifest, or the index over several. `moved_bytes` came now."""

    digest: str
    moved_bytes: int


class Near(Protocol):
    """Where blobs may lie on this machine already."""

    def find(self, digest: str) -> Path | None: ...


class Source(Protocol):
    """Where a bundle can be had."""

    def manifest(self, wanted: str) -> Stored | None: ...
    def blob(self, digest: str, start: int = 0) -> "Parts | Copied | None": ...
    def referrers(self, digest: str) -> list[dict[str, Any]]: ...


def fetch(
    source: Reference | Place, folder: Path, *, access: Access = PLAIN, choose: Choose | None = None,
    tell: Tell = lambda *_: None, limit_bytes_per_s: float | None = None, near: Near | None = None,
) -> Fetched:  # fmt: skip
    """Makes the existing `folder` an OCI layout with the bundle; what it has of it already is not asked for again, and
    what is `near` is taken from there.

    Raises Refused for bytes that are not what their digest or size says, Unavailable where the source is not reached
    or the connection is cut again and again (a repeat goes on), WrongInput where it has no such bundle, Failed where
    there is no room.
    """
    opened: Source = Registry(source, access) if isinstance(source, Reference) else OnDisk(source)
    wanted = source.wanted if isinstance(source, Reference) else (source.tag or "")
    top = opened.manifest(wanted)
    if top is None:
        raise WrongInput(f"{source}: there is no such bundle")
    mirrors = [_mirror(source, one, access) for one in access.mirrors] if isinstance(source, Reference) else []
    work = _Work(folder, str(source), opened, mirrors, tell, limit_bytes_per_s, near)
    return work.bring(top, choose, source.tag or "latest")


def _mirror(source: Reference, told: str, access: Access) -> Registry:
    host = told.removeprefix(_PLAIN_HTTP)
    if host != told:
        access = access._replace(plain_http=True, is_anonymous=True)
    return Registry(source._replace(host=host.rstrip("/")), access)


class _Work:
    """One fetch."""

    def __init__(
        self, folder: Path, name: str, source: Source, mirrors: Sequence[Source], tell: Tell, limit: float | None,
        near: Near | None,
    ) -> None:  # fmt: skip
        self._folder, self._name, self._source, self._tell, self._limit = folder, name, source, tell, limit
        self._mirrors, self._near = list(mirrors), near
        self._blobs = Blobs(folder)
        self._there = self._total = self._moved = 0
        self._entries: list[oci.OciDescriptor] = []

    def bring(self, top: Stored, choose: Choose | None, tag: str) -> Fetched:
        (self._folder / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        if top.media_type == oci.INDEX_TYPE and choose is not None:
            self._check_index(top)
            top = self._asked(choose(top.data))  # the device pins this one; of the others it keeps nothing
        named = self._kept(top, {_REF_NAME: tag})
        manifests = [self._decoded(top)] if named.media_type == oci.MANIFEST_TYPE else self._listed(top)
        subjects = [top.digest, *(one.digest for one, _ in manifests if one.digest != top.digest)]
        belongings = [found for subject in subjects for found in self._belongings(subject)]
        wanted = {
            one.digest: one for _, manifest in [*manifests, *belongings] for one in (manifest.config, *manifest.layers)
        }
        self._check_room(wanted.values())
        for descriptor in wanted.values():
            self._blob(descriptor)
        self._publish()
        return Fetched(top.digest, self._moved)

    # --- manifests

    def _listed(self, top: Stored) -> list[tuple[oci.OciDescriptor, oci.OciManifest]]:
        return [self._decoded(self._asked(one.digest)) for one in self._check_index(top).manifests]

    def _check_index(self, top: Stored) -> oci.OciIndex:
        index = oci.decode(top.data, oci.OciIndex, f"{self._name}: index")
        if len(index.manifests) > _ENTRIES:
            raise Refused(f"{self._name}: its index lists {len(index.manifests)} manifests, allowed are {_ENTRIES}")
        return index

    def _asked(self, digest: str) -> Stored:
        found = self._source.manifest(digest)
        if found is None:
            raise Refused(f"{self._name}: its index names {digest}, and it is not there")
        return found

    def _decoded(self, stored: Stored) -> tuple[oci.OciDescriptor, oci.OciManifest]:
        if stored.media_type != oci.MANIFEST_TYPE:
            raise Refused(f"{self._name}: {stored.digest} is a {stored.media_type!r}, wanted {oci.MANIFEST_TYPE}")
        self._blobs.put(stored.data)
        document = oci.decode(stored.data, oci.OciManifest, f"{self._name}: manifest {stored.digest}")
        described = oci.OciDescriptor(
            media_type=oci.MANIFEST_TYPE, digest=stored.digest, size=len(stored.data),
            artifact_type=document.artifact_type,
        )  # fmt: skip
        return described, document

    def _kept(self, stored: Stored, annotations: dict[str, str]) -> oci.OciDescriptor:
        """Keeps a manifest or index and lists it."""
        if stored.media_type not in (oci.MANIFEST_TYPE, oci.INDEX_TYPE):
            raise WrongInput(f"{self._name}: is a {stored.media_type!r}; wanted a bundle")
        self._blobs.put(stored.data)
        kind = msgspec.json.decode(stored.data, type=_Kind).artifact_type if stored.data else None
        entry = oci.OciDescriptor(
            media_type=stored.media_type, digest=stored.digest, size=len(stored.data), artifact_type=kind,
            annotations=annotations,
        )  # fmt: skip
        self._entries.append(entry)
        return entry

    def _belongings(self, subject: str) -> Iterator[tuple[oci.OciDescriptor, oci.OciManifest]]:
        """The signatures and statements about a manifest, each listed."""
        listed = self._source.referrers(subject)[:_ENTRIES]
        for digest in dict.fromkeys(str(one.get("digest")) for one in listed):
            stored = self._source.manifest(digest) if digest.startswith("sha256:") else None
            if stored is not None:
                found = self._decoded(stored)
                self._entries.append(found[0])
                yield found
        old = self._source.manifest(f"{fallback_tag(subject)}.sig")
        if old is not None:
            entry, manifest = self._decoded(old)
            named = {_REF_NAME: f"{fallback_tag(subject)}.sig"}
            self._entries.append(msgspec.structs.replace(entry, annotations=named))
            yield entry, manifest

    # --- blobs

    def _check_room(self, wanted: "Sequence[oci.OciDescriptor] | Any") -> None:
        self._total = sum(one.size for one in wanted)
        missing = sum(one.size for one in wanted if not self._blobs.path(one.digest).exists())
        free = files.free_bytes(self._folder)
        if missing > free:
            raise Failed(
                f"{self._folder}: no space left on the device: {self._name} takes {missing / 1e6:.0f} MB more, and "
                f"{free / 1e6:.0f} are free"
            )

    def _blob(self, wanted: oci.OciDescriptor) -> None:
        path = self._blobs.path(wanted.digest)
        if path.exists():
            try:
                self._blobs.check(wanted.digest, wanted.size)
            except Refused:
                path.unlink()  # damaged on this disk: it is asked for again
            else:
                self._there += wanted.size
                self._tell(self._there, self._total)
                return
        if self._near is not None and (other := self._near.find(wanted.digest)) is not None:
            with contextlib.suppress(OSError, Refused):
                os.link(other, path)
                self._blobs.check(wanted.digest, wanted.size)
                self._there += wanted.size
                return
            path.unlink(missing_ok=True)  # damaged, or on another disk
        partial = path.with_name(f".partial-{path.name}")
        for mirror in list(self._mirrors):
            try:
                self._stream(mirror, wanted, partial)
                break
            except (Refused, Unavailable, Failed, WrongInput):
                self._mirrors.remove(mirror)  # it lies, is slow or has it not: never asked again
        else:
            self._stream(self._source, wanted, partial)
        partial.rename(path)
        files.sync_folder(path.parent)

    def _stream(self, source: Source, wanted: oci.OciDescriptor, partial: Path) -> None:
        """Fills `partial`, from where it ended; a connection that is cut is taken up again while bytes come."""
        fruitless = 0
        while True:
            before = _size(partial)
            try:
                return self._try(source, wanted, partial)
            except Unavailable:
                fruitless = 0 if _size(partial) > before else fruitless + 1
                if fruitless == _FRUITLESS:
                    raise
                time.sleep(0.2 * fruitless)

    def _try(self, source: Source, wanted: oci.OciDescriptor, partial: Path) -> None:
        start = _size(partial)
        if start > wanted.size:
            partial.unlink()
            start = 0
        with partial.open("ab") as file:
            hasher = hashlib.sha256()
            if start < wanted.size or wanted.size == 0:
                parts = source.blob(wanted.digest, start)
                if parts is None:
                    raise Refused(f"{self._name}: the blob {wanted.digest} is named and not there")
                file.truncate(parts.start)
                start = parts.start
            else:
                parts = None
            with partial.open("rb") as before:
                for chunk in iter(lambda: before.read(1 << 20), b""):
                    hasher.update(chunk)
            if parts is not None:
                with contextlib.closing(parts):
                    for chunk in self._paced(parts):
                        start += len(chunk)
                        if start > wanted.size:
                            break
                        hasher.update(chunk)
                        file.write(chunk)
                        self._moved += len(chunk)
                        self._tell(self._there + start, self._total)
            file.flush()
            if start == wanted.size:
                os.fsync(file.fileno())
        self._judge(wanted, partial, start, f"sha256:{hasher.hexdigest()}")
        self._there += wanted.size

    def _judge(self, wanted: oci.OciDescriptor, partial: Path, got: int, digest: str) -> None:
        if got > wanted.size:
            partial.unlink()
            raise Refused(
                f"{self._name}: {wanted.digest} is longer than the {wanted.size} bytes that its manifest says"
            )
        if got < wanted.size:
            raise Unavailable(
                f"{self._name}: the connection ended after {got} of {wanted.size} bytes of {wanted.digest}"
            )
        if digest != wanted.digest:
            partial.unlink()
            raise Refused(f"{self._name}: instead of {wanted.digest} came bytes with the digest {digest}")

    def _paced(self, parts: "Parts | Copied") -> Iterator[bytes]:
        """No more bytes in a second than were allowed."""
        if self._limit is None:
            yield from parts
            return
        begin_s, moved = time.monotonic(), 0
        for chunk in parts:
            yield chunk
            moved += len(chunk)
            ahead_s = moved / self._limit - (time.monotonic() - begin_s)
            if ahead_s > 0:
                time.sleep(ahead_s)

    def _publish(self) -> None:
        """Last of all the table of contents: before it the folder is no bundle."""
        files.write_atomic(self._folder / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        once = {entry.digest: entry for entry in reversed(self._entries)}
        index = oci.OciIndex(schema_version=2, media_type=oci.INDEX_TYPE, manifests=tuple(reversed(once.values())))
        files.write_atomic(self._folder / "index.json", to_canonical_json(index))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Kind(msgspec.Struct, rename="camel"):
    artifact_type: str | None = None


class Copied:
    """The bytes of a blob on a disk; all of them, whoever asks."""

    def __init__(self, path: Path, start: int) -> None:
        self.start = start
        self._file = files.open_regular(path)
        self._file.seek(start)

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self._file.read(1 << 20), b"")

    def close(self) -> None:
        self._file.close()


class OnDisk:
    """A layout as a source; it may be taken out while it is read."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._layout = oci.Layout(place.folder)
        self._index = self._layout.index()

    def manifest(self, wanted: str) -> Stored | None:
        """A named one, one by its digest, or the only one that belongs to no other."""
        for entry in self._index.manifests:
            if wanted in (entry.digest, entry.annotations.get(_REF_NAME)):
                return self._read(entry)
        if wanted.startswith("sha256:"):
            return self._below(wanted)
        mains = [entry for entry in self._index.manifests if _REF_NAME in entry.annotations]
        mains = [entry for entry in mains if not entry.annotations[_REF_NAME].endswith(".sig")]
        if wanted:
            return None
        if len(mains) != 1:
            names = ", ".join(entry.annotations[_REF_NAME] for entry in mains) or "none"
            raise WrongInput(
                f"{self._place}: holds {len(mains)} bundles: {names}", hint=f"oci:{self._place.folder}:TAG"
            )
        return self._read(mains[0])

    def blob(self, digest: str, start: int = 0) -> Copied | None:
        path = Blobs(self._place.folder).path(digest)
        return Copied(path, start) if path.exists() else None

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """Of the index's entries those whose manifest names `digest` as its subject."""
        found = []
        for entry in self._index.manifests:
            if entry.media_type == oci.MANIFEST_TYPE:
                said = msgspec.json.decode(self._layout.read(entry, "a manifest"), type=_Subject)
                if said.subject is not None and said.subject.digest == digest:
                    found.append({"digest": entry.digest})
        return found

    def _below(self, digest: str) -> Stored | None:
        """A manifest that an index lists."""
        path = Blobs(self._place.folder).path(digest)
        if not path.exists():
            return None
        entry = oci.OciDescriptor(media_type=oci.MANIFEST_TYPE, digest=digest, size=path.stat().st_size)
        return self._read(entry)

    def _read(self, entry: oci.OciDescriptor) -> Stored:
        data = self._layout.read(entry, "a manifest", limit_bytes=oci.MANIFEST_LIMIT_BYTES)
        return Stored(data, entry.media_type, entry.digest)


class _Subject(msgspec.Struct, rename="camel"):
    subject: oci.OciDescriptor | None = None
