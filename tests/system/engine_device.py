"""A device that runs containers, behind an sshd of a test's own, and the bundles that may go there."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import test_deploy_over_ssh
from container_host import GOLDEN, edgeward, make_bundle
from loopback_sshd import Server, serving

from edgeward import bundle

_APART = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
_OWN_STORE = 'mkdir -p /var/lib/edgeward && mount -t tmpfs tmpfs /var/lib/edgeward && exec "$@"'
OWN_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
"""Begins a command that has a network of its own."""
NAME = "edgeward-digits"


@contextmanager
def reached(folder: Path, program: str, line: str) -> Iterator[Server]:
    """An sshd whose /var/lib/edgeward is not this machine's, and whose `program` is the shell line."""
    with serving(folder, folder / "cache", within=[*_APART, _OWN_STORE, "sh"]) as server:
        (server.home / "bin").mkdir()
        script = server.home / "bin" / program
        script.write_text(f'#!/bin/sh\nPATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nexec {line} "$@"\n')
        script.chmod(0o755)
        yield server


class EngineDevice:
    """`form` is what it is deployed as. `wrong` and `doubler`, of another name, fail their self-tests."""

    def __init__(self, server: Server, form: str, folder: Path) -> None:
        self.server, self._form = server, form
        self.first = make_bundle(folder)
        self.second, self.wrong = folder / "second", folder / "wrong-digits"
        self.doubler = test_deploy_over_ssh.make(folder / "wrong", bundle.load_key(folder / "signer.key"), gain=3.0)
        edgeward("pack", self.first, "--version", "2.0.0", "-o", self.second)
        edgeward("pack", self.doubler, "--name", "digits", "--version", "3.0.0", "-o", self.wrong)
        for one in (self.second, self.wrong):
            edgeward("sign", one, "--key", folder / "signer.key")

    def deploy(self, place: Path, *words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        command = ["deploy", place, self.server.host, "--as", self._form, "--key", GOLDEN / "signer.pub", *words]
        done = self._run(*map(str, command))
        if code == 0 and done.returncode == 5:
            pytest.skip(f"wheels or packages cannot be had: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == code, done.stderr
        return done

    def ask(self, verb: str, *words: str, code: int = 0) -> str:
        """What a verb about this device's services prints; what it complains of where it fails."""
        named = [words[0], self.server.host, *words[1:]] if verb != "status" else [self.server.host, *words]
        done = self._run(verb, *named)
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout + done.stderr if verb == "logs" else done.stdout

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "edgeward", *words], env=self.server.environment(), capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip

    @property
    def version(self) -> str:
        """Of the model that answers."""
        raise NotImplementedError


def check_verbs(device: EngineDevice, engine: str) -> None:
    """status, logs and rollback of what runs there, and of what does not."""
    device.deploy(device.first)
    device.deploy(device.second)
    (told,) = json.loads(device.ask("status", "--json"))["services"]
    assert (told["name"], told["version"], told["state"]) == ("digits", "2.0.0", "active")
    assert told["unit"] == f"{engine} container {NAME}"
    assert "serving digits 2.0.0" in device.ask("logs", "digits", "--lines", "20")
    for version in ("1", "2.0.0"):
        assert "again" in device.ask("rollback", "digits")
        assert device.version == version
        assert json.loads(device.ask("status", "--json"))["services"][0]["version"] == version
    for verb in ("logs", "rollback"):
        assert "there is no service 'door' of edgeward; there is digits" in device.ask(verb, "door", code=2)
