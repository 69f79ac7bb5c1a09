"""The bundle alone as an image, which nothing starts: a cluster or Podman mounts it into a container as a volume."""

from edgeward.bundle import containers
from edgeward.bundle.images import Images
from edgeward.bundle.packers.base import PackedFile, Packer, Service
from edgeward.bundle.verified import VerifiedBundle
from edgeward.kit.tars import Entry

_ARCHES = ("amd64", "arm64")


class ModelImage:
    def pack(self, bundle: VerifiedBundle, service: Service) -> tuple[PackedFile, ...]:
        images, labels = Images(), containers.labels(bundle)
        layer = images.lay([Entry(one.path, one.data, one.mode) for one in service.contents])
        made = [
            images.image(
                [layer],
                platform={"architecture": arch, "os": "linux"},
                config={"Labels": labels, "Env": [f"{name}={one}" for name, one in containers.environment().items()]},
                created=bundle.manifest.created_at.isoformat(),
                annotations=labels,
            )
            for arch in _ARCHES
        ]
        files = images.layout(made, bundle.manifest.version, labels)
        return tuple(PackedFile(one.path, one.data, origin=one.origin) for one in files)


plugin: Packer = ModelImage()
