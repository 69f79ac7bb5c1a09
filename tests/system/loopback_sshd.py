"""A real sshd on the loopback, with a key, a port and a home of its own."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from edgeward.measure.remote import RemotePlace

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
SSH = shutil.which("ssh")
needs_sshd = pytest.mark.skipif(
    not Path(SSHD).exists() or SSH is None, reason="sshd or ssh is missing: apt-get install openssh-server"
)


class Server(NamedTuple):
    """What listens there; `home` has the folder `tmp` for what is temporary."""

    host: str
    options: tuple[str, ...]
    home: Path
    process: "subprocess.Popen[bytes]"

    def place(self) -> RemotePlace:
        return RemotePlace(self.host, options=self.options)

    def environment(self) -> dict[str, str]:
        """For a command whose ssh is to know this server: the real ssh, with the options a user has in a file."""
        bin_folder = self.home.parent / "bin"
        bin_folder.mkdir(exist_ok=True)
        program = bin_folder / "ssh"
        program.write_text(f'#!/bin/sh\nexec {SSH} {" ".join(self.options)} "$@"\n')
        program.chmod(0o755)
        return {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}


def new_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _settings(folder: Path, home: Path, cache: Path, port: int) -> str:
    return (
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        "StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n"
        f"SetEnv TMPDIR={home}/tmp XDG_CACHE_HOME={cache} PATH={home}/bin:/usr/bin:/bin\n"
    )


@contextmanager
def serving(folder: Path, cache: Path, *, setting: str = "", within: Sequence[str] = ()) -> Iterator[Server]:
    """A server that runs for as long as the `with` lasts; `setting` is one more line of its configuration, `cache`
    where the device keeps what it was sent, and `within` a command that starts it."""
    own, home = folder / "sshd", folder / "there"
    own.mkdir(mode=0o700)
    (home / "tmp").mkdir(parents=True)
    key, port = new_key(own / "user"), _free_port()
    new_key(own / "host")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of root separates privileges
    (own / "authorized").write_bytes((own / "user.pub").read_bytes())
    (own / "config").write_text(f"{_settings(own, home, cache, port)}{setting}\n")
    options = ("-F", "none", "-i", str(key), "-o", "IdentitiesOnly=yes")
    options += ("-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={own}/known")
    process = subprocess.Popen([*within, SSHD, "-D", "-e", "-f", str(own / "config")], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield Server(f"{getpass.getuser()}@127.0.0.1:{port}", options, home, process)
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
