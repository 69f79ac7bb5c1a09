"""Takes a bundle from a layout into a registry: what is missing there, blobs before what names them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgeward.bundle import layout as oci
from edgeward.bundle.registry.client import PLAIN, Access, Registry, fallback_tag
from edgeward.bundle.registry.reference import Reference
from edgeward.kit import files
from edgeward.kit.blobs import Blobs
from edgeward.kit.codec import to_canonical_json
from edgeward.kit.errors import Failed, Refused, Unavailable, WrongInput

_PART_BYTES = 8 << 20
_CUTS = 5
_REF_NAME = "org.opencontainers.image.ref.name"
Tell = Callable[[int, int], None]


class Pushed(NamedTuple):
    """Where it is now: `reference` has the digest. `moved_bytes` went there now."""

    reference: Reference
    moved_bytes: int


class _Linked(msgspec.Struct, rename="camel"):
    subject: oci.OciDescriptor | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] = {}


def push(
    folder: Path, reference: Reference, *, access: Access = PLAIN, mount_from: str | None = None,
    tell: Tell = lambda *_: None,
) -> Pushed:  # fmt: skip
    """Pushes the bundle in `folder` with all that belongs to it, and gives it the reference's tag, or its version's.

    Blobs may be taken over from another repository of the registry, `mount_from`. Raises WrongInput for a folder with
    no bundle or several, Refused where a byte of it is altered or the registry does not let us, Unavailable where the
    registry is not reached; a repeat goes on.
    """
    layout = oci.Layout(folder)
    index = layout.index()
    main = _main(layout, index)
    work = _Work(layout, Registry(reference, access, actions="pull,push"), mount_from, tell)
    work.check(index)
    for entry in index.manifests:
        if entry.digest != main.digest and entry.media_type == oci.MANIFEST_TYPE:
            work.blobs_of(entry)
    work.tree(main, reference.tag or main.annotations.get(_REF_NAME) or "latest")
    for entry in index.manifests:
        if entry.digest != main.digest:
            work.belonging(entry)
    return Pushed(reference._replace(digest=main.digest), work.moved)


def _main(layout: oci.Layout, index: oci.OciIndex) -> oci.OciDescriptor:
    """The one entry that belongs to no other."""
    found = []
    for entry in index.manifests:
        is_old_signature = entry.annotations.get(_REF_NAME, "").endswith(".sig")
        data = layout.read(entry, "a manifest", limit_bytes=oci.MANIFEST_LIMIT_BYTES)
        if not is_old_signature and msgspec.json.decode(data, type=_Linked).subject is None:
            found.append(entry)
    if len(found) != 1:
        raise WrongInput(f"{layout.folder}: holds {len(found)} bundles; wanted one")
    return found[0]


class _Work:
    def __init__(self, layout: oci.Layout, registry: Registry, mount_from: str | None, tell: Tell) -> None:
        self._layout, self._registry, self._mount_from, self._tell = layout, registry, mount_from, tell
        self._blobs = Blobs(layout.folder)
        self._done: set[str] = set()
        self._there = self._total = self.moved = 0

    def check(self, index: oci.OciIndex) -> None:
        """Every byte, before the first one leaves: a registry would keep what is damaged under a good name."""
        sizes = {}
        for entry in index.manifests:
            for one in self._all(entry):
                self._layout.check(one, "a file of the bundle")
                sizes[one.digest] = one.size
        self._total = sum(sizes.values())

    def _all(self, entry: oci.OciDescriptor) -> Iterator[oci.OciDescriptor]:
        if entry.media_type == oci.INDEX_TYPE:
            for child in oci.decode(self._bytes(entry), oci.OciIndex, "the bundle's index").manifests:
                yield from self._all(child)
        else:
            manifest = self._manifest(entry)
            yield from (manifest.config, *manifest.layers)

    def tree(self, entry: oci.OciDescriptor, wanted: str) -> None:
        """A manifest with its blobs, or an index with its manifests before it."""
        if entry.media_type == oci.INDEX_TYPE:
            for child in oci.decode(self._bytes(entry), oci.OciIndex, "the bundle's index").manifests:
                self.tree(child, child.digest)
        else:
            self.blobs_of(entry)
        self._registry.put_manifest(wanted, self._bytes(entry), entry.media_type)

    def belonging(self, entry: oci.OciDescriptor) -> None:
        """A signature or statement: by the tag that it has, or as a referrer of its subject."""
        tag, data = entry.annotations.get(_REF_NAME), self._bytes(entry)
        kept = self._registry.put_manifest(tag or entry.digest, data, entry.media_type)
        said = msgspec.json.decode(data, type=_Linked)
        if said.subject is not None and kept is None:
            self._list(said.subject.digest, entry, said)

    def _list(self, subject: str, entry: oci.OciDescriptor, said: _Linked) -> None:
        """For registries that keep no lists themselves: reads the list, adds to it, writes it."""
        listed = self._registry.referrers(subject)
        if any(one.get("digest") == entry.digest for one in listed):
            return
        mine = {
            "mediaType": entry.media_type, "digest": entry.digest, "size": entry.size,
            "artifactType": said.artifact_type, "annotations": said.annotations,
        }  # fmt: skip
        index = {"schemaVersion": 2, "mediaType": oci.INDEX_TYPE, "manifests": [*listed, mine]}
        self._registry.put_manifest(fallback_tag(subject), to_canonical_json(index), oci.INDEX_TYPE)

    def blobs_of(self, entry: oci.OciDescriptor) -> None:
        manifest = self._manifest(entry)
        for one in (manifest.config, *manifest.layers):
            if one.digest not in self._done:
                self._blob(one)
                self._done.add(one.digest)
                self._there += one.size
                self._tell(self._there, self._total)

    def _blob(self, one: oci.OciDescriptor) -> None:
        if self._registry.has_blob(one.digest):
            return
        if self._mount_from is not None and self._registry.mount(one.digest, self._mount_from):
            return
        place, sent = self._registry.start_upload(), 0
        with files.open_regular(self._blobs.path(one.digest)) as file:
            cuts = 0
            while sent < one.size:
                file.seek(sent)
                part = file.read(min(_PART_BYTES, one.size - sent))
                if not part:
                    raise Refused(f"{self._layout.folder}: {one.digest} became shorter while it was read")
                try:
                    place = self._registry.send_part(place, part, sent)
                    sent += len(part)
                    self.moved += len(part)
                    self._tell(self._there + sent, self._total)
                except (Unavailable, Failed):
                    cuts += 1
                    if cuts > _CUTS:
                        raise
                    sent, place = self._registry.sent(place)
        self._registry.finish_upload(place, one.digest)

    def _manifest(self, entry: oci.OciDescriptor) -> oci.OciManifest:
        return oci.decode(self._bytes(entry), oci.OciManifest, f"{self._layout.folder}: manifest {entry.digest}")

    def _bytes(self, entry: oci.OciDescriptor) -> bytes:
        return self._layout.read(entry, "a manifest", limit_bytes=oci.MANIFEST_LIMIT_BYTES)
