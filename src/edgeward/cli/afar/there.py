"""Verbs about a device's services, asked of the edgeward that was delivered there."""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from edgeward.cli.afar.device import Device
from edgeward.cli.afar.ship import answer_of
from edgeward.kit.errors import Unsupported, WrongInput
from edgeward.measure import ssh

_PYTHON = "/opt/edgeward/current/bin/python"
_ROOT = '[ "$(id -u)" = 0 ] || sudo="sudo -n"; exec $sudo "$@"'


def ask(host: str, *words: str, also: Sequence[int] = ()) -> tuple[dict[str, Any], int]:
    """The document that a verb printed there, and its exit code: 0, or one of `also`. Raises what it raised."""
    with Device(host) as device:
        if not device.facts.releases:
            raise Unsupported(f"{host}: nothing was deployed there yet", hint=f"edgeward deploy BUNDLE {host}")
        done = device.run(_PYTHON, "-m", "edgeward", *words)
    code = done.code if done.code in also and done.output else 0
    return answer_of(host, done._replace(code=0) if code else done), code


def check_service(host: str, name: str) -> None:
    """Raises WrongInput where the device has no service of this name."""
    told, _ = ask(host, "status", "--json", also=(1,))
    names = [one["name"] for one in told["services"]]
    if name not in names:
        found = ", ".join(names) or "no service"
        raise WrongInput(f"{host}: there is no service {name!r} of edgeward; there is {found}")


def show(host: str, command: Sequence[str]) -> int:
    """Runs a command there as root, its output here; its exit code."""
    sys.stdout.flush()
    line = f"sh -c {shlex.quote(_ROOT)} sh {shlex.join(command)}"
    return subprocess.run(ssh.shell_command(host, line), check=False).returncode
