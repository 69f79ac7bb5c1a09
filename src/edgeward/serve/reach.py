"""What each source and sink needs of the machine – devices, network, files – as a service's walls must leave it.

A table beside the members: importing one to ask it would want its packages. One of another distribution is not in it.
"""

import posixpath
import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from edgeward.bundle.needs import Devices, Reach
from edgeward.kit.errors import Unsupported

Kind = Literal["source", "sink"]


class _Member(NamedTuple):
    """`host` is the option that holds a URL or HOST:PORT. `reads`, `secrets` and `writes` are options with a path."""

    device: str = ""
    host: str = ""
    reads: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


_MEMBERS: dict[tuple[Kind, str], _Member] = {
    ("source", "camera"): _Member(device="video"),
    ("source", "microphone"): _Member(device="sound"),
    ("source", "serial"): _Member(device="serial"),
    ("source", "shm"): _Member(),
    ("source", "files"): _Member(reads=("path",)),
    ("source", "replay"): _Member(reads=("path",)),
    ("source", "video"): _Member(reads=("path",)),
    ("source", "rtsp"): _Member(host="url"),
    ("source", "http"): _Member(host="url", reads=("ca_file",), secrets=("password_file",)),
    ("source", "mqtt"): _Member(host="url", reads=("ca_file",), secrets=("password_file",)),
    ("source", "edgex"): _Member(host="url", reads=("ca_file",), secrets=("password_file",)),
    ("sink", "jsonl"): _Member(writes=("path",)),
    ("sink", "sqlite"): _Member(writes=("path",)),
    ("sink", "video"): _Member(writes=("path",)),
    ("sink", "memory"): _Member(),
    ("sink", "mjpeg"): _Member(host="address"),
    ("sink", "mqtt"): _Member(host="url", reads=("ca_file",), secrets=("password_file",)),
    ("sink", "edgex"): _Member(host="url", reads=("ca_file",), secrets=("password_file",), writes=("profile_file",)),
    ("sink", "webhook"): _Member(host="url", reads=("ca_file",), secrets=("token_file",), writes=("spool",)),
}
_TTY = re.compile(r"/dev/(tty[A-Z]+)\d+")


class Placed(NamedTuple):
    """A source or sink with its paths as the service sees them, and what it needs. `reads` are files that the
    service's own user must be able to read."""

    table: dict[str, Any]
    reach: Reach
    reads: tuple[str, ...]


def place(kind: Kind, said: Mapping[str, Any], *, here: str, state: str, secrets: str) -> Placed:
    """`here` is the folder that paths are said from, `state` the service's own folder, which takes what it writes,
    `secrets` where it finds its credentials. Raises Unsupported for a member that the table does not know."""
    member = _MEMBERS.get((kind, said["use"]))
    if member is None:
        raise Unsupported(
            f"{kind} {said['use']!r}: what it needs of the machine is not known, so no walls can be drawn around it",
            hint="write a unit of your own; docs/systemd.md shows its lines",
        )
    table = dict(said)
    for key in _said(said, member.reads):
        table[key] = _at(here, said[key])
    credentials = []
    for key in _said(said, member.secrets):
        source = _at(here, said[key])
        name = f"{kind}-{re.sub('[^A-Za-z0-9.-]', '-', source.strip('/'))}"
        credentials.append((name, source))
        table[key] = f"{secrets}/{name}"
    written = [key for key in _said(said, member.writes) if said[key] != "-"]
    for key in written:
        table[key] = _written(said[key], here, state)
    folders = [posixpath.dirname(table[key]) for key in written]
    owned = [folder for folder in folders if folder.startswith(f"{state}/")]
    reach = Reach(
        devices=_devices(member.device, str(said.get("device", ""))),
        hosts=(_host(said[member.host]),) if member.host else (),
        writes=tuple(folder for folder in folders if folder not in (state, *owned)),
        states=tuple(posixpath.relpath(folder, state) for folder in owned),
        credentials=tuple(credentials),
    )
    return Placed(table, reach, tuple(table[key] for key in _said(said, member.reads)))


def _said(said: Mapping[str, Any], keys: tuple[str, ...]) -> list[str]:
    return [key for key in keys if said.get(key) is not None]


def _at(here: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(here, path))


def _written(path: str, here: str, state: str) -> str:
    """A relative path lies in the service's own folder, one that leads out of it where it leads."""
    return _at(here if posixpath.normpath(path).startswith("..") else state, path)


def _devices(kind: str, node: str) -> Devices:
    """By the kernel's name of the driver, so that one which is plugged in later may be opened, too."""
    if kind == "video":
        return Devices(("char-video4linux",), ("video",))
    if kind == "sound":
        return Devices(("char-alsa",), ("audio",))
    if kind == "serial":
        tty = _TTY.fullmatch(node)
        return Devices((f"char-{tty[1]}",) if tty else ("char-ttyUSB", "char-ttyACM"), ("dialout",))
    return Devices(())


def _host(address: str) -> str:
    """An IP address, "localhost", or "" for a name that only the network can tell."""
    host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    try:
        return "localhost" if host == "localhost" or ip_address(host).is_loopback else _unless_every(host)
    except ValueError:
        return ""


def _unless_every(host: str) -> str:
    return "" if ip_address(host).is_unspecified else host
