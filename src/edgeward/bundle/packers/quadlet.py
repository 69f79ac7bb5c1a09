"""A Quadlet file: Podman's way to run a container as a systemd service (Podman 4.6 or newer)."""

import json

from edgeward.bundle import containers
from edgeward.bundle.packers.base import PackedFile, Packer, Service, container
from edgeward.bundle.verified import VerifiedBundle


class Quadlet:
    def pack(self, bundle: VerifiedBundle, service: Service) -> tuple[PackedFile, ...]:
        said = container(bundle, service)
        lines = [
            "# Written by `edgeward export`. It goes to /etc/containers/systemd, then: systemctl daemon-reload.",
            "[Unit]",
            f"Description=edgeward serves {said.name} in a container",
            "After=network-online.target",
            "StartLimitIntervalSec=600",
            "StartLimitBurst=20",
            "",
            "[Container]",
            f"ContainerName=edgeward-{said.name}",
            f"Image={said.image}",
            *([f"Exec={' '.join(said.arguments)}"] if said.arguments else []),
            *(f"Environment={name}={value}" for name, value in containers.environment().items()),
            f"PublishPort={said.published}:{said.port}",
            f"# {containers.WHY_WALLS}",
            f"User={containers.USER}",
            f"Group={containers.USER}",
            "DropCapability=all",
            "NoNewPrivileges=true",
            "ReadOnly=true",
            f"Tmpfs=/tmp:rw,size={containers.TEMPORARY_BYTES >> 20}m,mode=1777",
            *_devices(said.grants),
            *_limits(said),
            "# Ready while every model is; a container that is not for a while is killed, and so started anew.",
            f"HealthCmd={json.dumps(containers.health_command())}",
            "HealthInterval=30s",
            "HealthTimeout=6s",
            "HealthRetries=3",
            f"HealthStartPeriod={said.start_s}s",
            "HealthOnFailure=kill",
            "",
            "[Service]",
            "Restart=on-failure",
            "RestartSec=1",
            "# Refused: a signature or a byte is wrong, and is so again at the next try.",
            "RestartPreventExitStatus=6",
            "# An image may have to be pulled first.",
            "TimeoutStartSec=900",
            "",
            "[Install]",
            "WantedBy=multi-user.target default.target",
            "",
        ]
        return (PackedFile(f"edgeward-{said.name}.container", "\n".join(lines).encode()),)


def _devices(grants: containers.Grants) -> list[str]:
    if not grants.nodes and not grants.cdi:
        return ["# It runs on the CPU: no devices."]
    named = [f"AddDevice={name}" for name in (*grants.nodes, *grants.cdi)]
    groups = [f"PodmanArgs=--group-add={group}" for group in grants.groups]
    return ["# The accelerator's devices and no others.", *named, *groups]


def _limits(said: containers.Container) -> list[str]:
    cpu = [f"PodmanArgs=--cpus={said.cpus} --pids-limit={containers.TASKS}"]
    if said.memory_bytes is None:
        return ["# No limit of memory: this bundle brings no measurement to take it from.", *cpu]
    return [
        f"# {containers.WHY_LIMITS}",
        f"PodmanArgs=--memory={said.memory_bytes >> 20}m",
        *cpu,
    ]


plugin: Packer = Quadlet()
