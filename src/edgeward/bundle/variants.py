"""Several bundles of one model under one name: an image index over them, each still signed by itself."""

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from edgeward.bundle import layout as oci
from edgeward.bundle.checking import check
from edgeward.bundle.contents import Contents, read_contents
from edgeward.bundle.keys import Trust
from edgeward.bundle.resolve import annotations_of
from edgeward.kit import codec, files
from edgeward.kit.errors import Refused, WrongInput

_REF_NAME = "org.opencontainers.image.ref.name"


def join(bundles: Sequence[Path], target: Path, trust: Trust, *, overwrite: bool = False) -> str:
    """Writes a layout with an index over the `bundles`, with their signatures; the index's digest.

    Raises WrongInput for bundles of different models or versions, Refused for one that a key of `trust` has not signed.
    """
    for folder in bundles:
        check(folder, trust)
    contents = [read_contents(oci.Layout(folder)) for folder in bundles]
    names = {(one.manifest.name, one.manifest.version) for one in contents}
    if len(names) != 1:
        told = ", ".join(f"{name} {version}" for name, version in sorted(names))
        raise WrongInput(f"variants are of one model in one version; these are {told}")
    if len({one.digest for one in contents}) != len(contents):
        raise WrongInput("the same bundle is named twice")
    with files.new_folder(target, overwrite=overwrite) as work:
        layout = oci.create(work)
        entries = [_taken(layout, one) for one in contents]
        belongings = [entry for one in contents for entry in _belongings(layout, one)]
        index = oci.OciIndex(schema_version=2, media_type=oci.INDEX_TYPE, manifests=tuple(entries))
        stored = layout.put(codec.to_canonical_json(index), oci.INDEX_TYPE)
        named = replace(stored, annotations={_REF_NAME: contents[0].manifest.version})
        layout.write_index(
            oci.OciIndex(schema_version=2, media_type=oci.INDEX_TYPE, manifests=(named, *belongings))
        )  # fmt: skip
    return stored.digest


def index_in(folder: Path) -> bytes | None:
    """The index over the variants in a joined folder; None where it holds one bundle."""
    layout = oci.Layout(folder)
    entry = next((one for one in layout.index().manifests if one.media_type == oci.INDEX_TYPE), None)
    return None if entry is None else layout.read(entry, "the index of variants", limit_bytes=oci.INDEX_LIMIT_BYTES)


def _taken(layout: oci.Layout, one: Contents) -> oci.OciDescriptor:
    """Puts a variant's blobs; its entry for the index."""
    for descriptor in (one.oci.config, *one.oci.layers):
        _copy(layout, one.layout, descriptor)
    raw = next(raw for entry, _, raw in one.layout.manifests() if entry.digest == one.digest)
    said = annotations_of(one.manifest.measured(), one.manifest.model.files[0].size_bytes)
    described = layout.put(raw, oci.MANIFEST_TYPE, {**one.oci.annotations, **said})
    return replace(described, artifact_type=oci.MODEL_TYPE)


def _belongings(layout: oci.Layout, one: Contents) -> list[oci.OciDescriptor]:
    """Its signatures."""
    found = []
    for entry, _, raw in one.layout.manifests():
        if entry.digest == one.digest:
            continue
        document = oci.decode(raw, oci.OciManifest, f"{one.layout.folder}: manifest {entry.digest}")
        for descriptor in (document.config, *document.layers):
            _copy(layout, one.layout, descriptor)
        if layout.put(raw, oci.MANIFEST_TYPE).digest != entry.digest:
            raise Refused(f"{one.layout.folder}: changed while it was read")
        found.append(entry)
    return found


def _copy(layout: oci.Layout, source: oci.Layout, descriptor: oci.OciDescriptor) -> None:
    layout.put(source.read(descriptor, "a file"), descriptor.media_type)
