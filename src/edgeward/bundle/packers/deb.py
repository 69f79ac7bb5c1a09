"""Debian packages: Edgeward, its agent and its packages for each processor; and the bundle with its systemd unit."""

import hashlib
import re
from collections.abc import Sequence

from edgeward import __version__
from edgeward.bundle.agent_units import resident
from edgeward.bundle.closure import HOME
from edgeward.bundle.packers.base import Machine, PackedFile, Packer, Service
from edgeward.bundle.verified import VerifiedBundle
from edgeward.kit.tars import EPOCH, Entry, entries_of, gz, tar

_MAINTAINER = "Edgeward <edgeward@localhost>"
_LIBRARIES = "libstdc++6, zlib1g"
_BUNDLES = "usr/lib/edgeward/bundles"
_UNITS = "etc/systemd/system"
"""Where the unit's packer puts it; a package has it elsewhere, so that one in /etc takes its place."""
_PROGRAM = f'#!/bin/sh\nexport PYTHONDONTWRITEBYTECODE=1\nexec {HOME}/bin/python -m {{module}} "$@"\n'
"""Run by root it would leave bytecode beside the package's files."""
_AGENT = (
    Entry("usr/lib/systemd/system/edgeward-agent.service", resident(f"{HOME}/bin/python").encode()),
    Entry("usr/bin/edgeward", _PROGRAM.format(module="edgeward").encode(), 0o755),
    Entry("usr/bin/edgeward-agent", _PROGRAM.format(module="edgeward.agent.main").encode(), 0o755),
)
"""The agent waits for its settings: it is there, and somebody enables it."""
_START = """#!/bin/sh
# Starts it, and anew after each update; on a machine that systemd does not run, nothing is started.
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl enable --quiet {unit}
  systemctl restart {unit}
elif [ "$1" = configure ] && command -v systemctl >/dev/null; then
  systemctl enable --quiet {unit}
fi
"""
_STOP = """#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  systemctl disable --now --quiet {unit}
fi
"""


class Deb:
    stands_on_base = False
    within = "systemd"

    def pack(self, bundle: VerifiedBundle, service: Service) -> tuple[PackedFile, ...]:
        return (*(_runtime(machine, bundle) for machine in service.machines), _bundle(bundle, service))


def _runtime(machine: Machine, bundle: VerifiedBundle) -> PackedFile:
    python = f"{machine.abi.python[0]}.{machine.abi.python[1]}"
    following = f"{machine.abi.python[0]}.{machine.abi.python[1] + 1}"
    runtime = _slug(bundle.manifest.runtime)
    entries = [*machine.environment, *(one for part in machine.parts for one in entries_of(part.path)), *_AGENT]
    parts = "".join([*(part.digest for part in machine.parts), *(str(one.data) for one in _AGENT)])
    version = f"{__version__}+{hashlib.sha256(parts.encode()).hexdigest()[:8]}"  # other contents have another version
    said = {
        "Package": f"edgeward-{runtime}",
        "Version": version,
        "Architecture": machine.arch,
        "Depends": f"python3 (>= {python}), python3 (<< {following}~), libc6 (>= 2.{machine.abi.glibc}), {_LIBRARIES}",
        "Provides": "edgeward-runtime",
        "Conflicts": "edgeward-runtime",
        "Replaces": "edgeward-runtime",
        "Description": f"serves bundles for {runtime}: edgeward and its packages, in /opt/edgeward",
    }
    name = f"edgeward-{runtime}_{version}_{machine.arch}.deb"
    return PackedFile(name, _archive(said, entries, {}))


def _bundle(bundle: VerifiedBundle, service: Service) -> PackedFile:
    manifest = bundle.manifest
    package, version = f"edgeward-bundle-{_slug(manifest.name)}", _version(manifest.version)
    units = [one.path.rpartition("/")[2] for one in service.within if one.path.startswith(f"/{_UNITS}/")]
    entries = [Entry(_place(one.path), one.data, one.mode) for one in service.within]
    entries += [Entry(f"{_BUNDLES}/{manifest.name}/{one.path}", one.data) for one in service.contents]
    said = {
        "Package": package,
        "Version": version,
        "Architecture": "all",
        "Depends": f"edgeward-{_slug(manifest.runtime)}",
        "Description": f"the model {manifest.name}, signed, and the service that serves it",
    }
    scripts = {"postinst": _START, "prerm": _STOP}
    made = {name: text.format(unit=" ".join(units)) for name, text in scripts.items() if units}
    return PackedFile(f"{package}_{version}_all.deb", _archive(said, entries, made))


def _place(path: str) -> str:
    return path.lstrip("/").replace(f"{_UNITS}/", "usr/lib/systemd/system/")


def _archive(said: dict[str, str], entries: Sequence[Entry], scripts: dict[str, str]) -> bytes:
    """A package: an ar archive of a mark, the control files and the files."""
    size = sum(len(one.data) for one in entries) // 1024 + 1
    fields = {**said, "Maintainer": _MAINTAINER, "Installed-Size": str(size), "Section": "misc", "Priority": "optional"}
    about = fields.pop("Description")
    control = "".join(f"{name}: {value}\n" for name, value in {**fields, "Description": about}.items())
    files = [one for one in entries if one.link is None and not one.path.endswith("/")]
    sums = "".join(f"{hashlib.md5(one.data, usedforsecurity=False).hexdigest()}  {one.path}\n" for one in sorted(files))
    inner = [
        Entry("control", control.encode()),
        Entry("md5sums", sums.encode()),
        *(Entry(name, text.encode(), 0o755) for name, text in scripts.items()),
    ]
    kept = [one.path for one in files if one.path.startswith("etc/")]
    if kept:
        inner.append(Entry("conffiles", "".join(f"/{path}\n" for path in kept).encode()))
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": gz(tar(inner)),
        "data.tar.gz": gz(tar(entries)),
    }
    return b"!<arch>\n" + b"".join(_member(name, data) for name, data in members.items())


def _member(name: str, data: bytes) -> bytes:
    head = f"{name:<16}{EPOCH:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n"
    return head.encode() + data + b"\n" * (len(data) % 2)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.+-]+", "-", name.lower())


def _version(version: str) -> str:
    """As Debian admits it: digits come first."""
    plain = re.sub(r"[^A-Za-z0-9.+~]+", "+", version)
    return plain if plain[:1].isdigit() else f"0+{plain}"


plugin: Packer = Deb()
