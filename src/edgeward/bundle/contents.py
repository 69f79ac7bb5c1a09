"""What an unaltered layout holds: decoded, checked for sense, but not yet judged by who signed it."""

from collections.abc import Collection
from pathlib import PurePosixPath
from typing import NamedTuple

from msgspec import Struct

from edgeward.bundle.layout import (
    FILE_PATH,
    MANIFEST_LIMIT_BYTES,
    MODEL_TYPE,
    Layout,
    OciDescriptor,
    OciManifest,
    decode,
)
from edgeward.kit.errors import Refused
from edgeward.records.base import Descriptor
from edgeward.records.bundle import SCHEMA_VERSION, Manifest

MANIFEST_PATH = "edgeward.json"
_MANIFEST_LIMIT_BYTES = 16_000_000  # labels live in it, and some models know many thousand classes


class _SchemaVersion(Struct):
    schema_version: int


class _Precision(Struct):
    precision: str | None = None


class _Config(Struct):
    """Of the ModelPack config, what we read back."""

    config: _Precision


class Contents(NamedTuple):
    """A bundle's documents and where its files are."""

    layout: Layout
    digest: str
    oci: OciManifest
    manifest: Manifest
    config: _Config
    files: dict[str, OciDescriptor]


def find_model(layout: Layout) -> tuple[OciDescriptor, bytes]:
    """The one model manifest that the layout lists. Raises Refused when it lists none or several."""
    found = [(entry, raw) for entry, kind, raw in layout.manifests() if kind == MODEL_TYPE]
    if not found:
        raise Refused(f"{layout.folder}/index.json: lists no model manifest ({MODEL_TYPE})")
    if len(found) > 1:
        raise Refused(f"{layout.folder}/index.json: lists {len(found)} model manifests; wanted one")
    return found[0]


def read_contents(layout: Layout, found: tuple[OciDescriptor, bytes] | None = None) -> Contents:
    """The documents of the bundle, checked against their digests and for sense. Raises Refused for the first fault."""
    entry, raw = found or find_model(layout)
    where = f"{layout.folder}"
    document = decode(raw, OciManifest, f"{where}: manifest {entry.digest}")
    files = _files(document, where)
    manifest = _manifest(layout, files, where)
    config = decode(
        layout.read(document.config, "ModelPack config", limit_bytes=MANIFEST_LIMIT_BYTES), _Config, f"{where}: config"
    )
    _check_listed(manifest, files, where)
    return Contents(layout, entry.digest, document, manifest, config, files)


def read_files(contents: Contents, keep: Collection[str]) -> dict[str, bytes]:
    """The bytes of the files whose digests are in `keep`, by digest; every other file is checked and let go.

    Each file is read once. Raises Refused that names the first file that is missing, cut or altered.
    """
    kept = {}
    for path, layer in contents.files.items():
        if layer.digest in keep:
            kept[layer.digest] = contents.layout.read(layer, path)
        else:
            contents.layout.check(layer, path)
    return kept


def used(manifest: Manifest) -> tuple[Descriptor, Descriptor, Descriptor]:
    """What a device needs of the files: the model, the self-test's inputs and its expected outputs."""
    return manifest.model.files[0], manifest.self_test.inputs, manifest.self_test.expected


def _files(document: OciManifest, where: str) -> dict[str, OciDescriptor]:
    """The bundle's files by path. Raises Refused for a path that leads out of the bundle."""
    files: dict[str, OciDescriptor] = {}
    for layer in document.layers:
        path = layer.annotations.get(FILE_PATH, "")
        pure = PurePosixPath(path)
        if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or not path.isprintable():
            raise Refused(f"{where}: names a file {path!r}, which leads out of the bundle or has no name")
        if path in files:
            raise Refused(f"{where}: names the file {path!r} twice")
        files[path] = layer
    return files


def _manifest(layout: Layout, files: dict[str, OciDescriptor], where: str) -> Manifest:
    if MANIFEST_PATH not in files:
        raise Refused(f"{where}: has no {MANIFEST_PATH}; it is a model package of another program")
    raw = layout.read(files[MANIFEST_PATH], MANIFEST_PATH, limit_bytes=_MANIFEST_LIMIT_BYTES)
    version = decode(raw, _SchemaVersion, f"{where}: {MANIFEST_PATH}").schema_version
    if version > SCHEMA_VERSION:
        raise Refused(
            f"{where}: made by a newer edgeward: its schema version is {version}, known here is {SCHEMA_VERSION}",
            hint="pip install --upgrade edgeward",
        )
    return decode(raw, Manifest, f"{where}: {MANIFEST_PATH}")


def _check_listed(manifest: Manifest, files: dict[str, OciDescriptor], where: str) -> None:
    """What our manifest speaks of must be among the files that the signed manifest lists."""
    if len(manifest.model.files) != 1:
        raise Refused(f"{where}: {MANIFEST_PATH} names {len(manifest.model.files)} model files; wanted one")
    listed = {(layer.digest, layer.size, layer.media_type) for layer in files.values()}
    for one in (*used(manifest), *manifest.layers):
        if (one.digest, one.size_bytes, one.media_type) not in listed:
            raise Refused(f"{where}: {MANIFEST_PATH} speaks of {one.digest}, which the bundle does not list")
