"""A Compose file, for `docker compose` and `podman compose`."""

import json

from edgeward.bundle import containers
from edgeward.bundle.packers.base import PackedFile, Packer, Service, container
from edgeward.bundle.verified import VerifiedBundle


class Compose:
    def pack(self, bundle: VerifiedBundle, service: Service) -> tuple[PackedFile, ...]:
        said = container(bundle, service)
        name = said.name.replace(".", "-")
        lines = [
            "# Written by `edgeward export`.",
            f"name: edgeward-{name}",
            "services:",
            f"  {name}:",
            f"    image: {json.dumps(said.image)}",
            *([f"    command: {json.dumps(said.arguments)}"] if said.arguments else []),
            "    environment:",
            *(f"      {key}: {json.dumps(value)}" for key, value in containers.environment().items()),
            f"    ports: [{json.dumps(f'{said.published}:{said.port}')}]",
            f"    # {containers.WHY_WALLS}",
            f'    user: "{containers.USER}:{containers.USER}"',
            "    read_only: true",
            f'    tmpfs: ["/tmp:size={containers.TEMPORARY_BYTES >> 20}m,mode=1777"]',
            "    cap_drop: [ALL]",
            '    security_opt: ["no-new-privileges:true"]',
            *_devices(said.grants),
            f"    pids_limit: {containers.TASKS}",
            *_limits(said),
            "    healthcheck:",
            f"      test: {json.dumps(['CMD', *containers.health_command()])}",
            "      interval: 30s",
            "      timeout: 6s",
            "      retries: 3",
            f"      start_period: {said.start_s}s",
            "    restart: unless-stopped",
            "",
        ]
        return (PackedFile("compose.yaml", "\n".join(lines).encode()),)


def _devices(grants: containers.Grants) -> list[str]:
    if grants.cdi:
        return [
            "    # The accelerator, by its vendor's container toolkit.",
            "    deploy:",
            "      resources:",
            "        reservations:",
            "          devices: [{driver: nvidia, count: all, capabilities: [gpu]}]",
        ]
    if not grants.nodes:
        return ["    # It runs on the CPU: no devices."]
    nodes = [f"{node}:{node}" for node in grants.nodes]
    groups = [f"    group_add: {json.dumps(grants.groups)}"] if grants.groups else []
    return ["    # The accelerator's devices and no others.", f"    devices: {json.dumps(nodes)}", *groups]


def _limits(said: containers.Container) -> list[str]:
    # Docker refuses more than a device has: as many as its threads, which the devices that it was measured on have.
    cpus = f'    cpus: "{said.threads}"'
    if said.memory_bytes is None:
        return ["    # No limit of memory: this bundle brings no measurement to take it from.", cpus]
    return [f"    # {containers.WHY_LIMITS}", f"    mem_limit: {said.memory_bytes >> 20}m", cpus]


plugin: Packer = Compose()
