"""A Debian with systemd as its first process, in namespaces of its own, and edgeward in /opt/edgeward."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeward-tests"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,libfaketime,openssh-server,sudo"
TOOLS = {"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap", "ip": "iproute2", "nsenter": "util-linux"}
LIBRARIES = {"src": ROOT / "src", "fragile": ROOT / "tests/faults/fragile"}
CONTROLLERS = ("memory", "cpu", "cpuacct", "pids")
PYTHON = "/opt/edgeward/bin/python"
_MADE = count()
"""Machines of one process have names and networks of their own, too."""


def missing() -> str | None:
    """Why no such machine can be started here."""
    if os.geteuid() != 0:
        return "systemd-nspawn wants root"
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            return f"{tool} is missing: apt-get install {package}"
    if sys.version_info[:2] != (3, 11):
        return "the packages are shared with a Debian 12, whose Python is 3.11"
    return None


def _run(*command: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600, **options)


def root_tar(suite: str) -> Path:
    """The system as a tar, made once for each list of packages."""
    tar = CACHE / f"debian-{suite}-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:12]}.tar"
    if not tar.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = CACHE / f"{os.getpid()}.partial.tar"
        made = subprocess.run(
            ["mmdebstrap", "-q", "--variant=minbase", f"--include={PACKAGES}", suite, str(partial)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode != 0:
            pytest.skip(f"no Debian packages can be had: {made.stderr.strip().splitlines()[-1]}")
        partial.replace(tar)
    return tar


def dependencies() -> Path:
    """What edgeward needs on a device, unpacked once for each list."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    folder = CACHE / f"device-{hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:12]}"
    if not folder.exists():
        partial = CACHE / f"{os.getpid()}.partial"
        _run(sys.executable, "-m", "pip", "install", "-q", "--target", partial, *wanted)
        try:
            partial.replace(folder)
        except OSError:  # another worker was as quick
            shutil.rmtree(partial)
    return folder


class Machine:
    """`address` is where this host reaches it. A Debian other than 12 has no edgeward in /opt/edgeward."""

    def __init__(self, folder: Path, suite: str = "bookworm") -> None:
        self.root = folder / "root"
        number = os.getpid() + 10_007 * next(_MADE)
        self.name = f"ew{number % 100_000}"
        self._legacy = Path("/sys/fs/cgroup/memory").is_dir()
        third, fourth = number // 60 % 250, number % 60 * 4
        self._gateway, self.address = f"10.213.{third}.{fourth + 1}", f"10.213.{third}.{fourth + 2}"
        self._libraries = {"dependencies": dependencies(), **LIBRARIES}
        self.root.mkdir()
        _run("tar", "-C", self.root, "-xf", root_tar(suite))
        if suite == "bookworm":
            _run("chroot", self.root, "python3", "-m", "venv", "--without-pip", "/opt/edgeward")
            paths = "".join(f"/opt/libraries/{name}\n" for name in self._libraries)
            (self.root / "opt/edgeward/lib/python3.11/site-packages/libraries.pth").write_text(paths)
        self._make_network()
        self.boot()

    def _make_network(self) -> None:
        name, link = self.name, f"v{self.name}"
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", link, "type", "veth", "peer", "name", "e0", "netns", name)
        for words in (["addr", "add", f"{self._gateway}/30", "dev", link], ["link", "set", link, "up"]):
            _run("ip", *words)
        for words in (["addr", "add", f"{self.address}/30", "dev", "e0"], ["link", "set", "e0", "up"]):
            _run("ip", "-n", name, *words)
        _run("ip", "-n", name, "link", "set", "lo", "up")

    def boot(self) -> None:
        """Starts it; returns when it is up. Limits are enforced: by cgroup v1 where this host has that, else by v2."""
        run = Path("/run/systemd/nspawn")
        run.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(run):
            _run("mount", "-t", "tmpfs", "tmpfs", run)
        binds = [f"--bind-ro={place}:/opt/libraries/{name}" for name, place in self._libraries.items()]
        self._process = subprocess.Popen(
            ["systemd-nspawn", "--register=no", "--keep-unit", "--boot", "-q", "-D", self.root, *binds,
             f"--network-namespace-path=/run/netns/{self.name}", "--console=pipe"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "0" if self._legacy else "1"},
            preexec_fn=self._enter_cgroups,
        )  # fmt: skip
        self._wait(lambda: self._first() is not None, "its first process")
        self._wait(lambda: self.sh("systemctl is-system-running") in ("running", "degraded"), "its end of booting")
        if self._legacy:
            mounts = ["/sys/fs/cgroup", *(f"/sys/fs/cgroup/{name}" for name in CONTROLLERS)]
            self.sh("; ".join(f"mount -o remount,bind,rw {mount}" for mount in mounts) + "; systemctl daemon-reexec")

    def _enter_cgroups(self) -> None:
        for name in CONTROLLERS if self._legacy else ():
            group = Path("/sys/fs/cgroup", name, self.name)
            group.mkdir(exist_ok=True)
            (group / "cgroup.procs").write_text(str(os.getpid()))

    def _first(self) -> str | None:
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return children[0] if children else None

    def sh(self, line: str, *, code: int | None = None) -> str:
        """What a shell line prints there, on both streams. It ends with exit code `code`, where that is given."""
        first = self._first()
        assert first is not None, "the machine does not run"
        done = subprocess.run(
            ["nsenter", "-t", first, "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "env", "-i",
             "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "sh", "-c", line],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        assert code is None or done.returncode == code, done.stdout
        return done.stdout.strip()

    def edgeward(self, line: str, *, code: int = 0, python: str = PYTHON) -> str:
        return self.sh(f"{python} -m edgeward {line}", code=code)

    def put(self, folder: Path) -> str:
        """Copies a folder or file into its /root."""
        _run("cp", "-r", folder, self.root / "root" / folder.name)
        return f"/root/{folder.name}"

    def drop_in(self, unit: str, name: str, *lines: str) -> None:
        """What `systemctl edit` writes; no lines take it away."""
        place = self.root / "etc/systemd/system" / f"{unit}.service.d" / f"{name}.conf"
        place.parent.mkdir(exist_ok=True)
        place.unlink(missing_ok=True)
        if lines:
            place.write_text("\n".join(["[Service]", *lines, ""]))
        else:
            place.parent.rmdir()
        self.sh("systemctl daemon-reload", code=0)

    def show(self, unit: str, name: str) -> str:
        return self.sh(f"systemctl show --value --property {name} {unit}", code=0)

    def ask(self, method: str, path: str, body: bytes | None = None, port: int = 8000) -> tuple[int, Any]:
        """Status and document of one request from this host; status 0 where nobody answers."""
        connection = HTTPConnection(self.address, port, timeout=60)
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read() or b"null")
        except (OSError, HTTPException):
            return 0, None
        finally:
            connection.close()

    def _wait(self, is_so: Any, what: str, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
            time.sleep(0.05)

    def wait(self, is_so: Any, what: str) -> None:
        """Returns when `is_so()`; a machine that never comes to it fails the test."""
        self._wait(is_so, what)

    def halt(self) -> None:
        self.sh("systemctl poweroff")
        self._process.wait(60)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()  # nspawn tells the machine to power off
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", f"v{self.name}"], check=False, capture_output=True)
        for name in CONTROLLERS if self._legacy else ():
            for group, _, _ in os.walk(f"/sys/fs/cgroup/{name}/{self.name}", topdown=False):
                Path(group).rmdir()
