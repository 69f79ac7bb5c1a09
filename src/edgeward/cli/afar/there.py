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


def ask(host: str, *words: str) -> dict[str, Any]:
    """The document that a verb printed there. Raises what it raised."""
    with Device(host) as device:
        if not device.facts.releases:
            raise Unsupported(f"{host}: nothing was deployed there yet", hint=f"edgeward deploy BUNDLE {host}")
        done = device.run(_PYTHON, "-m", "edgeward", *words)
    return answer_of(host, done)


def services(host: str) -> list[dict[str, Any]]:
    """What runs there, of systemd and in containers. Raises Unsupported where nothing was deployed yet."""
    with Device(host) as device:
        contained = device.containers()
        if not device.facts.releases:
            if not contained:
                raise Unsupported(f"{host}: nothing was deployed there yet", hint=f"edgeward deploy BUNDLE {host}")
            return contained
        done = device.run(_PYTHON, "-m", "edgeward", "status", "--json")
    told = answer_of(host, done._replace(code=0) if done.code == 1 and done.output else done)
    return [*told["services"], *contained]


def service(host: str, name: str) -> dict[str, Any]:
    """One of them. Raises WrongInput where the device has none of this name."""
    found = services(host)
    one = next((one for one in found if one["name"] == name), None)
    if one is None:
        names = ", ".join(one["name"] for one in found) or "no service"
        raise WrongInput(f"{host}: there is no service {name!r} of edgeward; there is {names}")
    return one


def rollback(host: str, name: str) -> dict[str, Any]:
    """Lets it run the bundle before this one again."""
    unit = service(host, name)["unit"]
    if not is_contained(unit):
        return ask(host, "rollback", name, "--json")
    with Device(host) as device:
        return {"name": name, "digest": device.go_back(name), "unit": unit}


def is_contained(unit: str) -> bool:
    """Whether what `services` tells of is a container: "podman container NAME"."""
    return " container " in unit


def show(host: str, command: Sequence[str]) -> int:
    """Runs a command there as root, its output here; its exit code."""
    sys.stdout.flush()
    line = f"sh -c {shlex.quote(_ROOT)} sh {shlex.join(command)}"
    return subprocess.run(ssh.shell_command(host, line), check=False).returncode
