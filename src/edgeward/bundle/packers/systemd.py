"""A systemd service: the unit, hardened, and the public keys that it trusts."""

from ipaddress import ip_address

from edgeward.bundle.needs import MEMORY_MARGIN, REQUESTS_BYTES, Needs, needs_of
from edgeward.bundle.packers.base import PackedFile, Packer, Service
from edgeward.bundle.verify import VerifiedBundle

UNITS = "/etc/systemd/system"
KEYS = "/etc/edgeward"
_NOTIFY_RELOAD = 253
"""The first systemd that waits for the end of a reload which it asked for itself."""
_RELOAD = "ExecReload=/bin/sh -c 'kill -HUP $MAINPID'"
"""A minimal Debian has no program kill; its shell has one."""

_HARDENING = """\
# A user of its own that exists while it runs, and owns nothing but these folders below /var/lib and /var/cache.
DynamicUser=yes
StateDirectory=%N
CacheDirectory=%N
RuntimeDirectory=%N
RuntimeDirectoryMode=0755
UMask=0077
# The system is read-only for it, home folders and others' temporary files and processes are not there.
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
# No privileges, and no way to gain any.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
KeyringMode=private
# The system calls of usual services, of this machine's own kind, without those for administrators.
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
"""


class Systemd:
    def pack(self, bundle: VerifiedBundle, service: Service) -> tuple[PackedFile, ...]:
        name = bundle.manifest.name
        keys = tuple(
            PackedFile(f"{KEYS}/{name}/signer-{number}.pub", signer.to_pem())
            for number, signer in enumerate(sorted(bundle.signers, key=lambda signer: signer.fingerprint), 1)
        )
        return (*keys, PackedFile(f"{UNITS}/{unit_of(name)}", _unit(bundle, service, keys).encode()))


def unit_of(name: str) -> str:
    return f"edgeward-{name}.service"


def _unit(bundle: VerifiedBundle, service: Service, keys: tuple[PackedFile, ...]) -> str:
    manifest = bundle.manifest
    needs = needs_of(manifest, service.threads)
    return "\n".join([
        "# Written by `edgeward deploy`, which writes it anew; changes of your own belong into a drop-in:",
        f"#   systemctl edit {unit_of(manifest.name)}",
        "[Unit]",
        f"Description=edgeward serves {manifest.name}",
        "After=network.target",
        "StartLimitIntervalSec=600",
        "StartLimitBurst=20",
        "",
        "[Service]",
        *_life(service, keys, needs),
        "",
        *_limits(needs),
        "",
        *_HARDENING.splitlines(),
        *_addresses(service.host),
        *_code(needs),
        *_devices(needs),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ])  # fmt: skip


def _life(service: Service, keys: tuple[PackedFile, ...], needs: Needs) -> list[str]:
    """How it starts, reloads, is watched and comes back."""
    names = [key.path.rpartition("/")[2] for key in keys]
    words = [service.python, "-X", "faulthandler", "-m", "edgeward", "serve", service.bundle]
    words += ["--host", service.host, "--port", str(service.port)]
    words += [] if service.threads is None else ["--threads", str(service.threads)]
    words += [word for name in names for word in ("--key", f"%d/{name}")]
    is_waited_for = service.systemd >= _NOTIFY_RELOAD
    return [
        "# Ready once every model passed its self-test and the port listens.",
        *(["Type=notify-reload"] if is_waited_for else ["Type=notify", _RELOAD]),
        "NotifyAccess=main",
        "SyslogIdentifier=%N",
        f"ExecStart={' '.join(map(_quoted, words))}",
        f"TimeoutStartSec={needs.start_s}",
        "# Fed by inferences that ended: a model that hangs is killed and started anew.",
        f"WatchdogSec={needs.watchdog_s}",
        "Restart=on-failure",
        "RestartSec=1",
        "# Refused: a signature or a byte is wrong, and is so again at the next try.",
        "RestartPreventExitStatus=6",
        "# ONNX Runtime's official builds report home unless this is set.",
        "Environment=ORT_DISABLE_TELEMETRY=1 XDG_CACHE_HOME=%C/%N HOME=%S/%N PYTHONDONTWRITEBYTECODE=1",
        *(f"LoadCredential={name}:{key.path}" for name, key in zip(names, keys, strict=True)),
    ]


def _limits(needs: Needs) -> list[str]:
    cpu = ["# Its threads as measured, and one for the requests.", f"CPUQuota={100 * needs.cpus}%", "TasksMax=128"]
    if needs.memory_bytes is None:
        return ["# No MemoryMax: this bundle brings no measurement to take it from.", *cpu]
    margin = f"{MEMORY_MARGIN:g} × the measured peak, since a reload holds two models"
    return [
        f"# {margin}; {REQUESTS_BYTES >> 20} MiB for requests.",
        f"MemoryMax={needs.memory_bytes >> 20}M",
        *cpu,
    ]


def _addresses(host: str) -> list[str]:
    families = "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"
    if _is_loopback(host):
        why = "# Served on this machine alone: packets from and to others are dropped."
        return [families, why, "IPAddressDeny=any", "IPAddressAllow=localhost"]
    return [families, "# Served to other machines: IPAddressDeny=any and IPAddressAllow=10.0.0.0/8 would name which."]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _code(needs: Needs) -> list[str]:
    if needs.makes_code:
        return [f"# No MemoryDenyWriteExecute: {needs.makes_code}."]
    return ["MemoryDenyWriteExecute=yes"]


def _devices(needs: Needs) -> list[str]:
    if not needs.devices.nodes:
        return ["# It runs on the CPU: no devices, and no other users.", "PrivateDevices=yes", "PrivateUsers=yes"]
    return [
        "# The accelerator's nodes and no others.",
        "DevicePolicy=closed",
        *(f"DeviceAllow={node} rw" for node in needs.devices.nodes),
        *(f"SupplementaryGroups={group}" for group in needs.devices.groups),
    ]


def _quoted(word: str) -> str:
    """As a word of a command line in a unit, where % and $ have a meaning; "%d/" is the folder of credentials."""
    own = word if word.startswith("%d/") else word.replace("%", "%%")
    safe = own.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{safe}"' if any(character.isspace() or character in "\"'\\;" for character in safe) else safe


plugin: Packer = Systemd()
