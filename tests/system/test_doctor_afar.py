"""`edgeward doctor HOST` over a real sshd on the loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from loopback_sshd import Server, needs_sshd


def _start(server: Server, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "edgeward", "doctor", server.host, *options]
    return subprocess.Popen(
        command, env=server.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _files_below(folder: Path) -> list[str]:
    return [name for _, _, names in os.walk(folder) for name in names]


@needs_sshd
def test_a_device_with_nothing_but_python_is_examined_and_nothing_is_written_there(server: Server) -> None:
    process = _start(server, "--json")
    said, complaint = process.communicate(timeout=120)
    findings = {one["check"]: one for one in json.loads(said)}
    assert process.returncode == int(any(one["level"] == "problem" for one in findings.values())), complaint
    assert {"python", "runtimes", "disk", "clock", "cgroups", "real-time", "limits-hold"} <= set(findings)
    assert "a limit on memory that is set is kept" in findings["limits-hold"]["message"]
    assert "telemetry" not in findings
    assert _files_below(server.home) == []


@needs_sshd
def test_a_connection_that_is_cut_is_one_sentence_and_leaves_nothing_there(server: Server) -> None:
    process = _start(server)
    there = _python_below(server.process.pid)
    os.kill(there, signal.SIGSTOP)  # in the middle of its work
    for child in _children(server.process.pid):
        os.kill(child, signal.SIGKILL)
    said, complaint = process.communicate(timeout=120)
    os.kill(there, signal.SIGCONT)
    assert process.returncode == 5, complaint
    assert said == ""
    assert f"edgeward: {server.host} cannot be reached" in complaint
    assert "Traceback" not in complaint
    assert _ends(there)
    assert _files_below(server.home) == []


@needs_sshd
def test_the_hosts_that_a_device_could_contact_are_listed(server: Server) -> None:
    process = _start(server, "--privacy", "--json")
    said, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    assert {one["part"] for one in json.loads(said)} >= {"edgeward serve", "onnxruntime", "openvino"}
    assert _files_below(server.home) == []


def _python_below(pid: int) -> int:
    """The process on the device, as soon as it is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in _descendants(pid):
            with suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text().startswith("python"):
                    return child
    raise AssertionError("no Python was started there")


def _ends(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()


def _descendants(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _descendants(child)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
