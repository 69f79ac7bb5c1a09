"""Who we are to a registry: what `podman login`, `docker login` or the environment left for us."""

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from edgeward.kit.errors import WrongInput

_LIMIT_S = 20
_LIMIT_BYTES = 1_000_000


class Credentials(NamedTuple):
    user: str
    password: str

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def credentials_for(host: str) -> Credentials | None:
    """Those of EDGEWARD_REGISTRY_USER and EDGEWARD_REGISTRY_PASSWORD, else those in the files of Podman and Docker."""
    user, password = os.environ.get("EDGEWARD_REGISTRY_USER"), os.environ.get("EDGEWARD_REGISTRY_PASSWORD")
    if user and password is not None:
        return Credentials(user, password)
    for path in _files():
        found = _in_file(path, host)
        if found is not None:
            return found
    return None


def _files() -> Iterator[Path]:
    """Where they are looked for, as Podman does."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers/auth.json"
    home = Path(os.environ.get("HOME") or "/root")
    yield Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json"
    yield Path(os.environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"


def _in_file(path: Path, host: str) -> Credentials | None:
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(_LIMIT_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise WrongInput(f"{path}: cannot be read: {error}", hint=f"podman login {host}") from None
    helper = _mapping(said, "credHelpers").get(host) or (said.get("credsStore") if isinstance(said, dict) else None)
    if isinstance(helper, str) and re.fullmatch(r"[\w.-]+", helper):
        return _asked(helper, host)
    kept = _mapping(said, "auths").get(host) or _mapping(said, "auths").get(f"https://{host}")
    if not isinstance(kept, dict) or not isinstance(kept.get("auth"), str):
        return None
    try:
        user, _, password = base64.b64decode(kept["auth"], validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise WrongInput(f"{path}: what it has for {host} is damaged", hint=f"podman login {host}") from None
    return Credentials(user, password)


def _asked(helper: str, host: str) -> Credentials | None:
    """What a credential helper says; None where it knows nothing."""
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"], input=host.encode(), capture_output=True, timeout=_LIMIT_S,
            check=False,
        )  # fmt: skip
        said = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    if not isinstance(said, dict) or "Username" not in said or "Secret" not in said:
        return None
    return Credentials(str(said["Username"]), str(said["Secret"]))


def _mapping(said: Any, name: str) -> dict[str, Any]:
    found = said.get(name) if isinstance(said, dict) else None
    return found if isinstance(found, dict) else {}
