"""The user's own OpenSSH client: how a machine is named, reached, and what the end of a connection means."""

import base64
import re
import shlex
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

from edgeward.kit.errors import Unavailable, Unsupported, WrongInput

_SSH = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
_SSH += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=6"]
_HOST = re.compile(r"(?P<host>(?:[\w.-]+@)?[\w][\w.-]*|(?:[\w.-]+@)?\[[0-9a-fA-F:]+\])(?::(?P<port>\d{1,5}))?")
_NO_PROGRAM = 127
_AS_ROOT = '[ "$(id -u)" = 0 ] || sudo="sudo -n"; exec $sudo python3 -c "$1"'


def is_host(text: str) -> bool:
    """Whether `text` can name a machine to ssh to."""
    return _HOST.fullmatch(text) is not None


def python_command(host: str, program: Path, options: Sequence[str] = (), *, as_root: bool = False) -> list[str]:
    """ssh to `host` (user@host, user@host:port or an alias of its config), where python3 runs the text of `program`;
    `as_root` by sudo, where the user there is not root.

    Raises WrongInput for what names no machine, Unsupported where this machine has no ssh.
    """
    source = base64.b64encode(zlib.compress(program.read_bytes())).decode()
    code = f"import base64,zlib;exec(zlib.decompress(base64.b64decode('{source}')))"
    there = f"python3 -c {shlex.quote(code)}"
    if as_root:
        there = f"sh -c {shlex.quote(_AS_ROOT)} sh {shlex.quote(code)}"
    return shell_command(host, there, options)


def shell_command(host: str, line: str, options: Sequence[str] = ()) -> list[str]:
    """ssh to `host`, where the user's shell runs `line`. Raises what `python_command` raises."""
    if shutil.which(_SSH[0]) is None:
        raise Unsupported("there is no ssh on this machine", hint="sudo apt-get install openssh-client")
    return [*_SSH, *options, *_destination(host), line]


def words(host: str, *options: str, then: Sequence[str] = ()) -> str:
    """What a person types to get there, and to do something there."""
    *port, _, name = _destination(host)
    return shlex.join(["ssh", *options, *port, name, *then])


def ended(host: str, code: int, complaint: str) -> Unavailable:
    """What it means that the connection ended with this exit code and these complaints of ssh."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    if any("sudo" in line for line in lines):
        return Unavailable(
            f"{host}: this user may not become root there without a password ({lines[-1]})",
            hint="sudo visudo -f /etc/sudoers.d/edgeward there: USER ALL=(ALL) NOPASSWD: ALL",
        )
    if code == _NO_PROGRAM:
        return Unavailable(f"{host}: there is no python3", hint="install Python 3.11 or newer there")
    *port, _, name = _destination(host)
    plain = name.rpartition("@")[2]
    known = f"[{plain}]:{port[1]}" if port else plain
    if "HOST IDENTIFICATION HAS CHANGED" in complaint:
        return Unavailable(
            f"{host} cannot be reached: it shows another host key than the one known here; the machine was installed "
            "anew, or another one answers in its place",
            hint=f"once you know why: {shlex.join(['ssh-keygen', '-R', known])}",
        )
    if "Host key verification failed" in complaint:
        return Unavailable(f"{host} cannot be reached: its host key is not known here yet", hint=words(host))
    reason = lines[-1] if lines else f"the connection ended (exit code {code})"
    if "Permission denied" in reason:
        hint = shlex.join(["ssh-copy-id", *port, name])
        return Unavailable(f"{host} cannot be reached: {reason}", hint=hint)
    return Unavailable(f"{host} cannot be reached: {reason}", hint=words(host, "-v"))


def _destination(host: str) -> list[str]:
    match = _HOST.fullmatch(host)
    if match is None:
        raise WrongInput(f"{host!r} names no machine", hint="user@host, user@host:22, or a name of ~/.ssh/config")
    port = ["-p", match["port"]] if match["port"] else []
    return [*port, "--", match["host"].replace("[", "").replace("]", "")]
