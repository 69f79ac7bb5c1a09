"""An OCI image layout, gathered in memory: blobs by digest, and one index over processors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edgeward.bundle.bases import LAYER_TYPE, Layer
from edgeward.bundle.layout import INDEX_TYPE, MANIFEST_TYPE
from edgeward.kit.codec import digest_of, to_canonical_json
from edgeward.kit.tars import Entry, gz, tar

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_TAG = "org.opencontainers.image.ref.name"

Descriptor = dict[str, Any]


class Stored(NamedTuple):
    """One file of the layout; with an `origin` its bytes are that file's."""

    path: str
    data: bytes = b""
    origin: Path | None = None


class Laid(NamedTuple):
    """A layer in the layout, and the digest of the tar in it."""

    descriptor: Descriptor
    inner: str


class Images:
    """Equal calls give equal bytes, in whatever order."""

    def __init__(self) -> None:
        self._blobs = dict[str, Stored]()

    def keep(self, layer: Layer) -> Laid:
        """A layer that lies in a file."""
        place = _place(layer.digest)
        self._blobs[place] = Stored(place, origin=layer.path)
        return Laid(_described(layer.media_type, layer.digest, layer.size), layer.inner)

    def lay(self, entries: Sequence[Entry]) -> Laid:
        """A layer of these files."""
        whole = tar(entries)
        return Laid(self._put(gz(whole), LAYER_TYPE), digest_of(whole))

    def image(
        self, layers: Sequence[Laid], *, platform: Mapping[str, str], config: Mapping[str, Any], created: str,
        annotations: Mapping[str, str],
    ) -> Descriptor:  # fmt: skip
        """An image for one processor."""
        whole = {
            **platform,
            "created": created,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer.inner for layer in layers]},
            "history": [{"created": created, "created_by": "edgeward export"} for _ in layers],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self._put(to_canonical_json(whole), _CONFIG_TYPE),
            "layers": [layer.descriptor for layer in layers],
            "annotations": annotations,
        }
        return {**self._put(to_canonical_json(manifest), MANIFEST_TYPE), "platform": dict(platform)}

    def layout(self, images: Sequence[Descriptor], tag: str, annotations: Mapping[str, str]) -> list[Stored]:
        """All files of a layout that has these images as one, under `tag`."""
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": list(images), "annotations": annotations}
        whole = {**self._put(to_canonical_json(index), INDEX_TYPE), "annotations": {_TAG: tag}}
        top = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [whole]}
        return [
            *(self._blobs[path] for path in sorted(self._blobs)),
            Stored("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            Stored("index.json", to_canonical_json(top)),
        ]

    def _put(self, data: bytes, media_type: str) -> Descriptor:
        digest = digest_of(data)
        self._blobs[_place(digest)] = Stored(_place(digest), data)
        return _described(media_type, digest, len(data))


def _described(media_type: str, digest: str, size: int) -> Descriptor:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
