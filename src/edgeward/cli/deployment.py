"""Puts a packed service on this machine and starts it; where it does not start, what ran before runs again."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from edgeward.bundle.packers import PackedFile
from edgeward.bundle.packers.systemd import KEYS, SETTINGS, UNITS, unit_of
from edgeward.bundle.store import Store
from edgeward.kit import files, systemctl
from edgeward.kit.errors import EdgewardError, Failed, Unsupported, WrongInput

T = TypeVar("T")
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - what a hardened unit does not see
_FRESH = "python3 -m venv /opt/edgeward && /opt/edgeward/bin/pip install edgeward"


class Before(NamedTuple):
    """What a service was before a deploy; `files` has None for one that was not there."""

    files: dict[str, bytes | None]
    digest: str | None
    second: str | None
    is_active: bool

    def is_same(self, packed: Iterable[PackedFile], digest: str, second: str | None) -> bool:
        """Whether a deploy of these would change nothing."""
        same = (self.digest, self.second) == (digest, second)
        return self.is_active and same and self.files == {one.path: one.data for one in packed}


def look(unit: str, packed: Sequence[PackedFile], store: Store, name: str) -> Before:
    kept = {one.path: Path(one.path).read_bytes() if Path(one.path).exists() else None for one in packed}
    return Before(kept, store.current(name), store.second(name), systemctl.show(unit, "ActiveState") == "active")


def install(
    unit: str, packed: Sequence[PackedFile], store: Store, name: str, digest: str, *, limit_s: float,
    second: str | None = None, try_out: Callable[[], T],
) -> tuple[bool, T]:  # fmt: skip
    """Whether anything had to be changed, and what `try_out` gives once the service runs.

    Raises Failed where the service does not start, and what `try_out` raises; then all is as before.
    """
    before = look(unit, packed, store, name)
    if before.is_same(packed, digest, second):
        return False, try_out()
    try:
        _put({one.path: one.data for one in packed})
        store.switch(name, digest, second, remember=False)
        systemctl.tell("daemon-reload")
        systemctl.forget_failures(unit)
        systemctl.tell("enable", "--quiet", unit)
        systemctl.tell("restart", unit, limit_s=limit_s)
        tried = try_out()
    except (EdgewardError, OSError, KeyboardInterrupt) as error:
        said = systemctl.last_words(unit)
        _restore(before, unit, store, name)
        if isinstance(error, Failed):
            raise _not_started(unit, said, before, error) from error
        raise
    if before.digest != digest:
        store.remember(name, before.digest)
    store.prune()
    return True, tried


def go_back(unit: str, store: Store, name: str) -> str:
    """Starts the bundle that the service had before; its digest. Raises WrongInput where there is none, Failed where it
    does not start: then the one of now runs on."""
    now, before = store.current(name), store.previous(name)
    if now is None or before is None:
        raise WrongInput(f"{name}: there is no bundle before this one to go back to")
    store.switch(name, before)
    try:
        systemctl.forget_failures(unit)
        systemctl.tell("restart", unit, limit_s=600)
    except (EdgewardError, KeyboardInterrupt):
        said = systemctl.last_words(unit)
        store.switch(name, now, remember=False)
        systemctl.tell("restart", unit, limit_s=600)
        told = [line.removeprefix("edgeward: ") for line in said if line.startswith("edgeward: ")]
        raise Failed(f"{unit} did not start with {before}: {(told or ['it ended'])[-1]}; it runs {now} again") from None
    return before


def remove(unit: str, paths: Sequence[Path], store: Store, name: str) -> None:
    """Stops the service, and takes away all that `install` put."""
    systemctl.tell("disable", "--now", "--quiet", unit)
    _put({str(path): None for path in paths})
    store.switch(name, None)
    store.prune()
    systemctl.tell("daemon-reload")


def _put(wanted: dict[str, bytes | None]) -> None:
    """Writes these files, and removes those that are None."""
    for path, data in ((Path(path), data) for path, data in wanted.items()):
        if data is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomic(path, data, mode=0o600 if path.name == SETTINGS else 0o644)
        elif path.exists():
            path.unlink()
            files.sync_folder(path.parent)
            if path.parent.parent == Path(KEYS) and not any(path.parent.iterdir()):
                path.parent.rmdir()


def _restore(before: Before, unit: str, store: Store, name: str) -> None:
    is_new = before.digest is None
    if is_new:
        with suppress(Failed):  # a unit that systemd does not take cannot be stopped
            systemctl.tell("disable", "--now", "--quiet", unit)
    else:
        systemctl.tell("stop", unit)
    _put(before.files)
    store.switch(name, before.digest, before.second, remember=False)
    systemctl.tell("daemon-reload")
    if before.is_active:
        systemctl.tell("start", unit, limit_s=600)
    store.prune()


def _not_started(unit: str, said: Sequence[str], before: Before, error: Failed) -> Failed:
    reason = said[-1].removeprefix("edgeward: ") if said else error.message
    told = [line for line in said if line.startswith("edgeward: ")]
    if told:
        reason = told[-1].removeprefix("edgeward: ")
    now = "what ran before runs again" if before.is_active else "nothing of it was left behind"
    if before.digest is not None and not before.is_active:
        now = "it is as it was before, and stopped"
    return Failed(f"{unit} did not start: {reason}; {now}", hint=f"journalctl --unit {unit} --lines 30")


def check_python(python: str) -> None:
    """Raises Unsupported unless a service's own user can run edgeward by this interpreter."""
    import edgeward

    own = [Path(python), Path(python).resolve(), Path(sys.prefix), Path(sys.base_prefix), Path(edgeward.__file__)]
    for path in own:
        if why := hidden(path):
            raise Unsupported(f"{path}: a service has a user of its own, which cannot read this: {why}", hint=_FRESH)
    tried = subprocess.run([python, "-m", "edgeward", "--version"], env={}, cwd="/", capture_output=True, check=False)
    if tried.returncode != 0:
        raise Unsupported(f"{python} has no edgeward of its own; it was found by PYTHONPATH", hint=_FRESH)


def hidden(path: Path) -> str:
    """Why a hardened service cannot read `path`; "" where it can."""
    for place in _HIDDEN:
        if path.is_relative_to(place):
            return f"units do not see {place}"
    for part in (*reversed(path.parents), path):
        mode = part.stat().st_mode
        wanted = stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
        if not mode & wanted:
            return f"{part} is closed to others (mode {stat.S_IMODE(mode):o})"
    return ""


def check_kind(name: str, *, runs: bool) -> None:
    """Raises WrongInput where the service `name` is of the other kind: one serves a bundle, one runs a pipeline."""
    unit = Path(UNITS, unit_of(name))
    is_pipeline = Path(KEYS, name, SETTINGS).exists()
    if unit.exists() and is_pipeline != runs:
        does = "runs a pipeline" if is_pipeline else "serves a bundle"
        raise WrongInput(f"{unit.name} {does} of this name", hint=f"edgeward deploy --remove {name}")


def check_root() -> None:
    """Raises WrongInput unless this user may write units."""
    if os.geteuid() != 0:
        raise WrongInput("a service of this machine is installed by root", hint="sudo edgeward deploy …")
