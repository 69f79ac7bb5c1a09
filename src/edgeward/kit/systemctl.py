"""Talks to this machine's systemd by its own programs."""

import re
import shutil
from pathlib import Path

from edgeward.kit import process
from edgeward.kit.errors import Failed, Unsupported

_LIMIT_S = 60.0


def check() -> None:
    """Raises Unsupported where systemd does not run this machine."""
    if shutil.which("systemctl") is None:
        raise Unsupported("this machine has no systemd")
    if not Path("/run/systemd/system").is_dir():
        raise Unsupported("this machine was not started by systemd", hint="cat /proc/1/comm says by what")


def version() -> int | None:
    """Of the systemd that is installed here; None without one."""
    if shutil.which("systemctl") is None:
        return None
    found = re.match(rb"systemd (\d+)", process.run(["systemctl", "--version"], limit_s=_LIMIT_S).output)
    return int(found.group(1)) if found else None


def tell(*words: str, limit_s: float = _LIMIT_S) -> None:
    """Runs systemctl. Raises Failed with what it said."""
    done = process.run(["systemctl", *words], limit_s=limit_s)
    if done.code != 0:
        first = done.complaint.splitlines()[:1] or [done.ending]
        raise Failed(f"systemctl {' '.join(words)}: {first[0]}")


def forget_failures(unit: str) -> None:
    """Lets a unit that failed too often start again; one that never ran has nothing to forget."""
    process.run(["systemctl", "reset-failed", unit], limit_s=_LIMIT_S)


def show(unit: str, name: str) -> str:
    """One property of a unit, such as ActiveState; "" where it has none."""
    done = process.run(["systemctl", "show", "--property", name, "--value", unit], limit_s=_LIMIT_S)
    return done.output.decode(errors="replace").strip()


def last_words(unit: str, count: int = 8) -> list[str]:
    """The last lines that the unit's latest run wrote, as the journal has them."""
    run = show(unit, "InvocationID")
    which = [f"_SYSTEMD_INVOCATION_ID={run}"] if run else ["--unit", unit]
    command = ["journalctl", *which, "--lines", str(count), "--output", "cat", "--no-pager", "--quiet"]
    return process.run(command, limit_s=_LIMIT_S).output.decode(errors="replace").splitlines()
