"""A container image as an OCI layout, written without a daemon: one index over its processors."""

from collections.abc import Sequence
from typing import Any

from edgeward.bundle import containers
from edgeward.bundle.bases import LAYER_TYPE, Layer
from edgeward.bundle.layout import INDEX_TYPE, MANIFEST_TYPE
from edgeward.bundle.packers.base import Machine, PackedFile, Packer, Service
from edgeward.bundle.verify import VerifiedBundle
from edgeward.kit.codec import digest_of, to_canonical_json
from edgeward.kit.errors import WrongInput
from edgeward.kit.tars import Archive, Entry, gz, tar

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_NS = 1_000_000_000
_PATH = "/opt/edgeward/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_USERS = (
    Entry("etc/passwd", b"root:x:0:0:root:/root:/sbin/nologin\nedgeward:x:65532:65532::/tmp:/sbin/nologin\n"),
    Entry("etc/group", b"root:x:0:\nedgeward:x:65532:\n"),
)

Descriptor = dict[str, Any]


class OciImage:
    stands_on_base = True
    within = None

    def pack(self, bundle: VerifiedBundle, service: Service) -> tuple[PackedFile, ...]:
        blobs = dict[str, PackedFile]()
        keys = containers.keys_of(bundle)
        model = [Entry(f"{containers.BUNDLE[1:]}/{one.path}", one.data, one.mode) for one in service.contents]
        model += [Entry(path[1:], data) for path, data in keys.items()]
        manifests = [_manifest(blobs, bundle, machine, model, tuple(keys)) for machine in service.machines]
        annotations = containers.labels(bundle)
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests, "annotations": annotations}
        whole = _put(blobs, to_canonical_json(index), INDEX_TYPE)
        named = {**whole, "annotations": {"org.opencontainers.image.ref.name": bundle.manifest.version}}
        top = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [named]}
        return (
            *(blobs[path] for path in sorted(blobs)),
            PackedFile("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            PackedFile("index.json", to_canonical_json(top)),
        )


def _manifest(
    blobs: dict[str, PackedFile], bundle: VerifiedBundle, machine: Machine, model: Sequence[Entry],
    keys: tuple[str, ...],
) -> Descriptor:  # fmt: skip
    """Puts the image for one processor; its descriptor."""
    base = machine.base
    if base is None:
        raise WrongInput("an image stands on a base", hint="edgeward export … --as oci-image --base debian")
    start = [*machine.environment, *(() if base.has_users else _USERS)]
    own = [_kept(blobs, layer) for layer in (*base.layers, *map(_layer, machine.parts))]
    made = [_made(blobs, start), _made(blobs, model)]
    layers, inner = zip(*own, *made, strict=True)
    config = _config(bundle, machine, inner, keys, base.environment)
    described = _put(blobs, to_canonical_json(config), _CONFIG_TYPE)
    below = {"org.opencontainers.image.base.name": base.name}
    if base.digest:
        below["org.opencontainers.image.base.digest"] = base.digest
    manifest = {
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": described, "layers": list(layers),
        "annotations": {**containers.labels(bundle), **below},
    }  # fmt: skip
    platform = {"architecture": machine.arch, "os": "linux", **({"variant": base.variant} if base.variant else {})}
    return {**_put(blobs, to_canonical_json(manifest), MANIFEST_TYPE), "platform": platform}


def _config(
    bundle: VerifiedBundle, machine: Machine, inner: Sequence[str], keys: tuple[str, ...],
    inherited: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Its healthcheck is Docker's addition, which Podman and others leave aside."""
    said = {"PATH": _PATH, **containers.environment()}
    kept = [line for line in inherited if line.partition("=")[0] not in said]
    created = bundle.manifest.created_at.isoformat()
    health = {"Test": ["CMD", *containers.health_command()], "Interval": 30 * _NS, "Timeout": 6 * _NS, "Retries": 3}
    return {
        "architecture": machine.arch,
        "os": "linux",
        "created": created,
        "config": {
            "User": f"{containers.USER}:{containers.USER}",
            "ExposedPorts": {f"{containers.PORT}/tcp": {}},
            "Env": [*kept, *(f"{name}={value}" for name, value in said.items())],
            "Entrypoint": containers.entrypoint(keys),
            "WorkingDir": "/",
            "Labels": containers.labels(bundle),
            "StopSignal": "SIGTERM",
            "Healthcheck": {**health, "StartPeriod": 90 * _NS},
        },
        "rootfs": {"type": "layers", "diff_ids": list(inner)},
        "history": [{"created": created, "created_by": "edgeward export"} for _ in inner],
    }


def _layer(archive: Archive) -> Layer:
    return Layer(archive.path, archive.digest, archive.size, archive.inner)


def _kept(blobs: dict[str, PackedFile], layer: Layer) -> tuple[Descriptor, str]:
    place = _place(layer.digest)
    blobs[place] = PackedFile(place, origin=layer.path)
    return _described(layer.media_type, layer.digest, layer.size), layer.inner


def _made(blobs: dict[str, PackedFile], entries: Sequence[Entry]) -> tuple[Descriptor, str]:
    whole = tar(entries)
    return _put(blobs, gz(whole), LAYER_TYPE), digest_of(whole)


def _put(blobs: dict[str, PackedFile], data: bytes, media_type: str) -> Descriptor:
    digest = digest_of(data)
    blobs[_place(digest)] = PackedFile(_place(digest), data)
    return _described(media_type, digest, len(data))


def _described(media_type: str, digest: str, size: int) -> Descriptor:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


plugin: Packer = OciImage()
