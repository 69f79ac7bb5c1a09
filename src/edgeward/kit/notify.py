"""Tells the service manager how this process fares, as sd_notify(3) describes it; without one, says nothing."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic_ns

_PATIENCE_S = 0.1
"""A manager that reads nothing for a while must not stop the work."""


def tell(*words: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Sends assignments such as "READY=1" in one message. False where nobody listens: it never fails for that."""
    if not is_managed(environment):
        return False
    path = environment["NOTIFY_SOCKET"]
    address = "\0" + path[1:] if path[0] == "@" else path  # "@" stands for an abstract socket
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(_PATIENCE_S)
        sender.sendto("\n".join(words).encode(), address)
        return True
    return False


def is_managed(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a service manager listens."""
    return environment.get("NOTIFY_SOCKET", "").startswith(("/", "@"))


def status(line: str) -> str:
    """The assignment that shows `line` in `systemctl status`; an assignment has no line breaks."""
    return "STATUS=" + " ".join(line.split())


def reloading() -> tuple[str, str]:
    """The assignments that a reload begins with; "READY=1" ends it. The moment lets systemd tell this reload from
    an earlier one."""
    return "RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}"


def watchdog_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """Within which time the service manager wants to hear "WATCHDOG=1" again; None where it does not watch us."""
    wanted, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not wanted.isdecimal() or int(wanted) == 0 or process not in ("", str(os.getpid())):
        return None
    return int(wanted) / 1e6
