"""Podman with a store of its own, and an image of the digits, made once for all tests."""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "digits"
GOLDEN = ROOT / "tests" / "golden"
TOOLS = {"podman": "podman", "runc": "runc", "skopeo": "skopeo", "mmdebstrap": "mmdebstrap"}
BINFMT = Path("/proc/sys/fs/binfmt_misc")
QEMU = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
_SETTINGS = """[containers]
default_ulimits=["nofile=16384:16384","nproc=4096:4096"]
[network]
network_backend="netavark"
"""
ASK = """
import json, sys, urllib.request
from edgeward.bundle import trusted_keys, verify
from pathlib import Path
verified = verify(Path("/bundle"), trusted_keys([Path("/etc/edgeward/signer-1.pub")]))
inputs, expected = verified.self_test()
((name, array),) = inputs.items()
port = {"name": name, "datatype": "UINT8", "shape": list(array.shape), "data": array.ravel().tolist()}
url = "http://127.0.0.1:8000/v2/models/digits/infer"
answer = json.load(urllib.request.urlopen(urllib.request.Request(url, json.dumps({"inputs": [port]}).encode())))
((_, wanted),) = expected.items()
status = dict(line.split(":\\t", 1) for line in open("/proc/1/status").read().splitlines())
told = {"answer": answer["outputs"][0]["data"], "wanted": wanted.ravel().tolist(), "status": status}
told["devices"] = [len(open(f"/dev/{name}", "rb").read(8)) for name in ("null", "urandom")]
told["machine"] = __import__("platform").machine()
print(json.dumps(told))
"""


def missing() -> str | None:
    """Why no container can be started here."""
    if os.geteuid() != 0:
        return "these tests run podman as root"
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            return f"{tool} is missing: apt-get install {package}"
    return None


def edgeward(*words: object, code: int = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "edgeward", *map(str, words)], env={**os.environ, **environment},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    if code == 0 and done.returncode == 5:
        pytest.skip(f"wheels or packages cannot be had: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == code, done.stderr
    return done


def make_bundle(folder: Path) -> Path:
    """The digits, signed by the golden key."""
    steps = ["--preprocess", EXAMPLE / "preprocess.toml", "--labels", EXAMPLE / "labels.txt"]
    edgeward("pack", EXAMPLE / "digits.onnx", *steps, "-o", folder / "digits")
    shutil.copy(GOLDEN / "signer.key", folder / "signer.key")
    (folder / "signer.key").chmod(0o600)
    edgeward("sign", folder / "digits", "--key", folder / "signer.key")
    return folder / "digits"


class Host:
    """`program` is podman as a test or another program may start it."""

    def __init__(self, folder: Path) -> None:
        (folder / "containers.conf").write_text(_SETTINGS)
        self.program = folder / "podman"
        self._run = tempfile.mkdtemp(prefix="ew-")  # podman takes no long path for it
        where = f"--root {folder}/store --runroot {self._run} --runtime runc --storage-driver overlay"
        self.program.write_text(
            f'#!/bin/sh\nexport CONTAINERS_CONF={folder}/containers.conf\nexec podman {where} "$@"\n'
        )
        self.program.chmod(0o755)

    def podman(self, *words: object, stdin: str | None = None, code: int | None = 0) -> str:
        done = subprocess.run(
            [self.program, *map(str, words)], input=stdin, capture_output=True, text=True, timeout=300, check=False
        )
        assert code is None or done.returncode == code, f"podman {words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def wait(self, container: str, *, seconds: float = 90) -> None:
        """Returns when it says that it is ready, by the program that its health check runs."""
        end = time.monotonic() + seconds
        while "serving digits" not in (said := self._logs(container)):
            assert time.monotonic() < end, said
            time.sleep(0.2)
        self.podman("exec", container, "/opt/edgeward/bin/python", "-m", "edgeward.link.alive", "8000")

    def _logs(self, container: str) -> str:
        done = subprocess.run([self.program, "logs", container], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def ask(self, container: str) -> dict[str, Any]:
        """What it answers to its self-test's inputs, asked from inside, and what its first process may do."""
        told: dict[str, Any] = json.loads(self.podman("exec", "-i", container, "python", "-", stdin=ASK))
        return told

    def close(self) -> None:
        self.podman("rm", "--all", "--force", "--time", "2", code=None)
        self.podman("pod", "rm", "--all", "--force", "--time", "2", code=None)
        self.podman("rmi", "--all", "--force", code=None)
        shutil.rmtree(self._run, ignore_errors=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Emulation:
    """aarch64 programs run while the `with` lasts; what the machine had before stays."""

    def __init__(self) -> None:
        self._mounted = self._registered = False

    def __enter__(self) -> None:
        if platform.machine() == "aarch64":
            return
        if not QEMU.exists():
            pytest.skip("qemu-user-static is missing: apt-get install qemu-user-static")
        if not (BINFMT / "register").exists():
            done = subprocess.run(["mount", "-t", "binfmt_misc", "none", BINFMT], capture_output=True, check=False)
            self._mounted = done.returncode == 0
            if not self._mounted:
                pytest.skip("binfmt_misc cannot be mounted here")
        if not (BINFMT / "qemu-aarch64").exists():
            (BINFMT / "register").write_text(QEMU.read_text().strip())
            self._registered = True

    def __exit__(self, *_: object) -> None:
        if self._registered:
            (BINFMT / "qemu-aarch64").write_text("-1")
        if self._mounted:
            subprocess.run(["umount", BINFMT], capture_output=True, check=False)
