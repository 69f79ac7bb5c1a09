"""A container image as an OCI layout, written without a daemon: one index over its processors."""

from collections.abc import Sequence
from typing import Any

from edgeward.bundle import containers
from edgeward.bundle.bases import Layer
from edgeward.bundle.images import Descriptor, Images
from edgeward.bundle.packers.base import Machine, PackedFile, Packer, Service
from edgeward.bundle.verified import VerifiedBundle
from edgeward.kit.errors import WrongInput
from edgeward.kit.tars import Archive, Entry

_NS = 1_000_000_000
_PATH = "/opt/edgeward/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_USERS = (
    Entry("etc/passwd", b"root:x:0:0:root:/root:/sbin/nologin\nedgeward:x:65532:65532::/tmp:/sbin/nologin\n"),
    Entry("etc/group", b"root:x:0:\nedgeward:x:65532:\n"),
)


class OciImage:
    stands_on_base = True
    within = None

    def pack(self, bundle: VerifiedBundle, service: Service) -> tuple[PackedFile, ...]:
        images, keys = Images(), containers.keys_of(bundle)
        model = [Entry(f"{containers.BUNDLE[1:]}/{one.path}", one.data, one.mode) for one in service.contents]
        model += [Entry(path[1:], data) for path, data in keys.items()]
        made = [_image(images, bundle, machine, model, tuple(keys)) for machine in service.machines]
        files = images.layout(made, bundle.manifest.version, containers.labels(bundle))
        return tuple(PackedFile(one.path, one.data, origin=one.origin) for one in files)


def _image(
    images: Images, bundle: VerifiedBundle, machine: Machine, model: Sequence[Entry], keys: Sequence[str]
) -> Descriptor:
    """The image for one processor. Its own layers, from below: packages, edgeward, environment, model."""
    base = machine.base
    if base is None:
        raise WrongInput("an image stands on a base", hint="edgeward export … --as oci-image --base debian")
    start = [*machine.environment, *(() if base.has_users else _USERS)]
    kept = [images.keep(layer) for layer in (*base.layers, *map(_layer, machine.parts))]
    below = {"org.opencontainers.image.base.name": base.name}
    if base.digest:
        below["org.opencontainers.image.base.digest"] = base.digest
    return images.image(
        [*kept, images.lay(start), images.lay(model)],
        platform={"architecture": machine.arch, "os": "linux", **({"variant": base.variant} if base.variant else {})},
        config=_config(bundle, keys, base.environment),
        created=bundle.manifest.created_at.isoformat(),
        annotations={**containers.labels(bundle), **below},
    )


def _config(bundle: VerifiedBundle, keys: Sequence[str], inherited: Sequence[str]) -> dict[str, Any]:
    """Its healthcheck is Docker's addition, which Podman and others leave aside."""
    said = {"PATH": _PATH, **containers.environment()}
    kept = [line for line in inherited if line.partition("=")[0] not in said]
    health = {"Test": ["CMD", *containers.health_command()], "Interval": 30 * _NS, "Timeout": 6 * _NS, "Retries": 3}
    return {
        "User": f"{containers.USER}:{containers.USER}",
        "ExposedPorts": {f"{containers.PORT}/tcp": {}},
        "Env": [*kept, *(f"{name}={value}" for name, value in said.items())],
        "Entrypoint": containers.entrypoint(keys),
        "WorkingDir": "/",
        "Labels": containers.labels(bundle),
        "StopSignal": "SIGTERM",
        "Healthcheck": {**health, "StartPeriod": 90 * _NS},
    }


def _layer(archive: Archive) -> Layer:
    return Layer(archive.path, archive.digest, archive.size, archive.inner)


plugin: Packer = OciImage()
