"""How a service is found: the small file it leaves in a runtime folder for as long as it runs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from edgeward.measure import sysfs

_LONGEST_BYTES = 1 << 16
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a service listens on, and where it is reached


class Notice(NamedTuple):
    """A service as it announced itself. `started` is its process's start in the kernel's ticks since boot, which
    tells it from a later process of the same number; `lives` is whether that process is still there."""

    path: str
    url: str
    pid: int
    started: int
    lives: bool


def own_folder(environment: dict[str, str] | None = None) -> Path:
    """Where a service of this user leaves its notice: the folder that systemd gave it, the user's runtime folder,
    /run for root, else a folder of its own among the temporary ones."""
    around = dict(os.environ) if environment is None else environment
    if given := around.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        return Path(given)
    if users := around.get("XDG_RUNTIME_DIR"):
        return Path(users) / "edgeward"
    if os.geteuid() == 0:
        return Path("/run/edgeward")
    return Path(tempfile.gettempdir()) / f"edgeward-{os.geteuid()}"


def folders(root: Path = sysfs.ROOT) -> tuple[Path, ...]:
    """Every folder in which services of this machine may have left their notices."""
    found = [own_folder(), *sysfs.entries(root / "run", "edgeward*"), *sysfs.entries(root / "run/user", "*/edgeward")]
    found += sysfs.entries(root / "tmp", "edgeward-*")
    return tuple(dict.fromkeys(found))


@contextlib.contextmanager
def announced(url: str) -> Iterator[None]:
    """While the `with` lasts, others on this machine find this process as the service at `url`.

    Where no notice can be left, it serves all the same: it is then found by its URL alone.
    """
    path = None
    with contextlib.suppress(OSError):
        path = _leave(url)
    try:
        yield
    finally:
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()


def _leave(url: str) -> Path:
    folder = own_folder()
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user")
    for notice in found((folder,)):
        if not notice.lives:  # of a service that was killed, or of a time before a power cut
            Path(notice.path).unlink()
    path, pid = folder / f"serve-{os.getpid()}.json", os.getpid()
    beside = folder / f".serve-{pid}.partial"
    beside.write_text(json.dumps({"url": reached_at(url), "pid": pid, "started": started(pid)}) + "\n")
    beside.replace(path)
    return path


def found(places: tuple[Path, ...], root: Path = sysfs.ROOT) -> list[Notice]:
    """The notices in these folders, of living and of dead processes. A file that is no notice, or that speaks of
    another user's process or another machine, is no notice: what it names is asked for its numbers."""
    files = [file for folder in places for file in sysfs.entries(folder, "serve-*.json")]
    return [notice for file in files if (notice := _read(file, root)) is not None]


def _read(file: Path, root: Path) -> Notice | None:
    try:
        descriptor = os.open(str(file), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            owner = os.fstat(opened.fileno()).st_uid
            said = json.loads(opened.read(_LONGEST_BYTES))
        url, pid, began = said["url"], said["pid"], said["started"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if not (isinstance(url, str) and type(pid) is int and type(began) is int and is_here(url)):
        return None
    lives = started(pid, root) == began
    if owner not in (0, _owner(root / "proc" / str(pid)) if lives else os.geteuid()):
        return None
    return Notice(str(file), url, pid, began, lives)


def _owner(folder: Path) -> int | None:
    try:
        return folder.stat().st_uid
    except OSError:
        return None


def started(pid: int, root: Path = sysfs.ROOT) -> int | None:
    """When this process started, in ticks since boot; None where there is none, or only its corpse."""
    _, _, rest = (sysfs.text(root / "proc" / str(pid) / "stat") or "").rpartition(")")
    words = rest.split()
    return int(words[19]) if len(words) > 19 and words[0] not in "ZX" else None


def reached_at(url: str) -> str:
    """The URL by which a service is reached on its own machine, also where it listens on every address."""
    host = urlsplit(url).hostname or ""
    return url.replace(f"[{host}]" if ":" in host else host, _as_host(_ANY[host]), 1) if host in _ANY else url


def _as_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def is_here(url: str) -> bool:
    """Whether `url` is plain HTTP at an address of this machine: a notice sends nobody anywhere else."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.scheme != "http" or not host or not port or parts.path not in ("", "/"):
        return False
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as trial:
        socket.inet_pton(family, host)  # a name would be looked up, perhaps elsewhere
        trial.bind((host, 0))
        return True
    return False
