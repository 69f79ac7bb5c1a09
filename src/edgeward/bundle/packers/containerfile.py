"""A Containerfile and what it copies, for those who want to see how an image is made, or to change it."""

import json

from edgeward.bundle import containers
from edgeward.bundle.packers.base import Machine, PackedFile, Packer, Service
from edgeward.bundle.verified import VerifiedBundle
from edgeward.kit.tars import gz, tar


class Containerfile:
    stands_on_base = True
    within = None

    def pack(self, bundle: VerifiedBundle, service: Service) -> tuple[PackedFile, ...]:
        keys = containers.keys_of(bundle)
        above = {machine.base.name for machine in service.machines if machine.base and machine.base.digest}
        lines = [
            "# Written by `edgeward export`. Each build is for one processor: podman build --platform linux/arm64 .",
            *(
                [f"FROM {sorted(above)[0]}"]
                if above
                else ["FROM scratch", "ARG TARGETARCH", "ADD base-$TARGETARCH.tar.gz /"]
            ),
            *(["ARG TARGETARCH"] if above else []),
            "# Edgeward and its packages, in /opt/edgeward.",
            "ADD runtime-$TARGETARCH.tar.gz /",
            "ADD edgeward-$TARGETARCH.tar.gz /",
            "ADD environment-$TARGETARCH.tar.gz /",
            "COPY keys /etc/edgeward",
            f"COPY bundle {containers.BUNDLE}",
            f"ENV {' '.join(f'{name}={value}' for name, value in containers.environment().items())}",
            'ENV PATH="/opt/edgeward/bin:$PATH"',
            f"USER {containers.USER}:{containers.USER}",
            f"EXPOSE {containers.PORT}",
            "STOPSIGNAL SIGTERM",
            "# Podman keeps this in images of Docker's format alone: podman build --format docker .",
            f"HEALTHCHECK --start-period=90s CMD {json.dumps(containers.health_command())}",
            f"ENTRYPOINT {json.dumps(containers.entrypoint(keys))}",
            "",
        ]
        return (
            PackedFile("Containerfile", "\n".join(lines).encode()),
            *(PackedFile(f"keys/{path.rpartition('/')[2]}", data) for path, data in keys.items()),
            *(one._replace(path=f"bundle/{one.path}") for one in service.contents),
            *(file for machine in service.machines for file in _parts(machine)),
        )


def _parts(machine: Machine) -> list[PackedFile]:
    made = machine.base is not None and not machine.base.digest
    named = [("base", layer.path) for layer in (machine.base.layers if machine.base and made else ())]
    named += zip(("runtime", "edgeward"), (part.path for part in machine.parts), strict=True)
    environment = PackedFile(f"environment-{machine.arch}.tar.gz", gz(tar(machine.environment)))
    return [environment, *(PackedFile(f"{name}-{machine.arch}.tar.gz", origin=path) for name, path in named)]


plugin: Packer = Containerfile()
