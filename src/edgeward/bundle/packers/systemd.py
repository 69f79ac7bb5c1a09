"""A systemd service: the unit, hardened, and the public keys that it trusts."""

from ipaddress import ip_address

from edgeward.bundle.needs import MEMORY_MARGIN, REQUESTS_BYTES, Needs, Reach, both, needs_of, together
from edgeward.bundle.packers.base import Duty, PackedFile, Packer, Service
from edgeward.bundle.verified import VerifiedBundle

UNITS = "/etc/systemd/system"
KEYS = "/etc/edgeward"
SETTINGS = "edgeward.toml"
_NOTIFY_RELOAD = 253
"""The first systemd that waits for the end of a reload which it asked for itself."""
_CREDENTIALS, _CREDENTIALS_BEFORE_250 = "%d", "/run/credentials/%n"
"""The folder of what LoadCredential brings: its specifier, and where it is in systemd 247 to 249, which have none."""
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
        duty = service.duty
        name = duty.name if duty else bundle.manifest.name
        signers = (*bundle.signers, *(duty.second.signers if duty and duty.second else ()))
        trusted = {signer.fingerprint: signer for signer in signers}
        keys = tuple(
            PackedFile(f"{KEYS}/{name}/signer-{number}.pub", signer.to_pem())
            for number, (_, signer) in enumerate(sorted(trusted.items()), 1)
        )
        settings = (PackedFile(f"{KEYS}/{name}/{SETTINGS}", duty.settings, 0o600),) if duty else ()
        return (*keys, *settings, PackedFile(f"{UNITS}/{unit_of(name)}", _unit(bundle, service, keys).encode()))


def unit_of(name: str) -> str:
    return f"edgeward-{name}.service"


def _unit(bundle: VerifiedBundle, service: Service, keys: tuple[PackedFile, ...]) -> str:
    duty = service.duty
    name = duty.name if duty else bundle.manifest.name
    needs = needs_of(bundle.manifest, service.threads)
    if duty:
        needs = together(needs, needs_of(duty.second.manifest, service.threads)) if duty.second else needs
        needs = needs._replace(devices=both(needs.devices, duty.reach.devices))
    return "\n".join([
        "# Written by `edgeward deploy`, which writes it anew; changes of your own belong into a drop-in:",
        f"#   systemctl edit {unit_of(name)}",
        "[Unit]",
        f"Description=edgeward {f'runs the pipeline {name}' if duty else f'serves {name}'}",
        "After=network.target",
        "StartLimitIntervalSec=600",
        "StartLimitBurst=20",
        "",
        "[Service]",
        *_life(service, keys, needs),
        "",
        *_limits(needs, runs=duty is not None),
        "",
        *_HARDENING.splitlines(),
        *(_places(duty.reach) if duty else ()),
        *(_hosts(duty.reach) if duty else _addresses(service.host)),
        *_code(needs),
        *_devices(needs, runs=duty is not None),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ])  # fmt: skip


def _life(service: Service, keys: tuple[PackedFile, ...], needs: Needs) -> list[str]:
    """How it starts, reloads, is watched and comes back."""
    names, duty = [key.path.rpartition("/")[2] for key in keys], service.duty
    words = [service.python, "-X", "faulthandler", "-m", "edgeward"]
    if duty:
        words += ["run", duty.name]
    else:
        words += ["serve", service.bundle, "--host", service.host, "--port", str(service.port)]
    words += [] if service.threads is None else ["--threads", str(service.threads)]
    folder = _CREDENTIALS if service.systemd >= 250 else _CREDENTIALS_BEFORE_250
    words += [word for name in names for word in ("--key", f"{folder}/{name}")]
    is_waited_for = service.systemd >= _NOTIFY_RELOAD
    reloads = ["Type=notify-reload"] if is_waited_for else ["Type=notify", _RELOAD]
    return [
        f"# Ready once every model passed its self-test{'' if duty else ' and the port listens'}.",
        *(["Type=notify"] if duty else reloads),
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
        *(_settings(duty, folder) if duty else ()),
    ]


def _settings(duty: Duty, folder: str) -> list[str]:
    return [
        "# What it runs. Addresses there may hold passwords: only root and the service can read it.",
        f"LoadCredential={SETTINGS}:{KEYS}/{duty.name}/{SETTINGS}",
        *(_assigned("LoadCredential", f"{name}:{path}") for name, path in duty.reach.credentials),
        f"WorkingDirectory={folder}",
    ]


def _limits(needs: Needs, *, runs: bool) -> list[str]:
    cpu = ["# Its threads as measured, and one for the requests.", f"CPUQuota={100 * needs.cpus}%", "TasksMax=128"]
    if needs.memory_bytes is None:
        return ["# No MemoryMax: this bundle brings no measurement to take it from.", *cpu]
    margin = f"{MEMORY_MARGIN:g} × the measured peak"
    why = ", and {} MiB for samples." if runs else ", since a reload holds two models; {} MiB for requests."
    return [
        f"# {margin}{why.format(REQUESTS_BYTES >> 20)}",
        f"MemoryMax={needs.memory_bytes >> 20}M",
        *cpu,
    ]


def _addresses(host: str) -> list[str]:
    families = "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"
    if _is_loopback(host):
        why = "# Served on this machine alone: packets from and to others are dropped."
        return [families, why, "IPAddressDeny=any", "IPAddressAllow=localhost"]
    return [families, "# Served to other machines: IPAddressDeny=any and IPAddressAllow=10.0.0.0/8 would name which."]


def _places(reach: Reach) -> list[str]:
    """Folders that its sinks write."""
    own = [f"StateDirectory=%N/{_escaped(folder)}" for folder in reach.states]
    if not reach.writes:
        return own
    why = "# Folders of others that its sinks write; its user must be let in there by their mode or a group."
    return [*own, why, *(_assigned("ReadWritePaths", folder) for folder in reach.writes)]


def _hosts(reach: Reach) -> list[str]:
    if not reach.hosts:
        why = "# Neither its source nor a sink is on a network."
        return [why, "PrivateNetwork=yes", "IPAddressDeny=any", "RestrictAddressFamilies=AF_UNIX"]
    families = "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"
    if "" in reach.hosts:
        why = "# Its source or a sink has a host name, or is for every address; IPAddressAllow= holds no names, so all"
        return [families, why, "# are open. IPAddressDeny=any and IPAddressAllow=10.0.0.0/8 would name which."]
    why = "# Its source and sinks are there: packets from and to others are dropped."
    return [families, why, "IPAddressDeny=any", f"IPAddressAllow={' '.join(reach.hosts)}"]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _code(needs: Needs) -> list[str]:
    if needs.makes_code:
        return [f"# No MemoryDenyWriteExecute: {needs.makes_code}."]
    return ["MemoryDenyWriteExecute=yes"]


def _devices(needs: Needs, *, runs: bool) -> list[str]:
    if not needs.devices.nodes:
        why = "# It needs no devices" if runs else "# It runs on the CPU: no devices"
        return [f"{why}, and no other users.", "PrivateDevices=yes", "PrivateUsers=yes"]
    return [
        "# The nodes of its source or accelerator, and no others."
        if runs
        else "# The accelerator's nodes and no others.",
        "DevicePolicy=closed",
        *(f"DeviceAllow={node} rw" for node in needs.devices.nodes),
        *(f"SupplementaryGroups={group}" for group in needs.devices.groups),
    ]


def _quoted(word: str) -> str:
    """As a word of a command line in a unit, where % and $ have a meaning."""
    own = word if word.startswith((_CREDENTIALS, _CREDENTIALS_BEFORE_250)) else word.replace("%", "%%")
    safe = own.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{safe}"' if any(character.isspace() or character in "\"'\\;" for character in safe) else safe


def _assigned(setting: str, value: str) -> str:
    """A setting whose value is a path: % has a meaning in it, and quotes hold it together."""
    safe = _escaped(value).replace("\\", "\\\\").replace('"', '\\"')
    quotes = '"' if any(character.isspace() for character in safe) and setting != "LoadCredential" else ""
    return f"{setting}={quotes}{safe}{quotes}"


def _escaped(path: str) -> str:
    return path.replace("%", "%%")


plugin: Packer = Systemd()
