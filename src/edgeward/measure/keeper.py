"""What runs on a device while we measure there: plain Python, standard library only, sent over the connection.

It answers requests on its standard input, one JSON message each, and keeps two folders: one of its own for models,
which goes when the connection ends however it ends, and a cache for the runner, keyed by content.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeward" / "runner"
INPUT = 0
Answer = dict[str, Any]


def read_exactly(count: int) -> bytes:
    """So many bytes; EOFError where the connection ended."""
    parts = []
    while count:
        part = os.read(INPUT, min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_message() -> bytes:
    return read_exactly(int.from_bytes(read_exactly(8), "little"))


def say(answer: Answer) -> None:
    data = json.dumps(answer).encode()
    sys.stdout.buffer.write(len(data).to_bytes(8, "little") + data)
    sys.stdout.buffer.flush()


def emulated() -> bool:
    """Whether the kernel's processor is of another family than ours: then we run under emulation."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return (platform.machine() == "aarch64" and "vendor_id" in text) or any(
        name.startswith("QEMU") for name in (line.partition(":")[2].strip() for line in text.splitlines())
    )


def hello() -> Answer:
    return {
        "python": list(sys.version_info[:2]),
        "arch": platform.machine(),
        "libc": list(platform.libc_ver()),
        "emulated": emulated(),
        "found": [name for name in ("numpy", "msgspec", "onnxruntime") if importlib.util.find_spec(name)],
    }


def put(own: Path, request: Answer) -> Answer:
    """Takes one file; a wheel or our own rooms, where `runner` names the cached folder they belong to."""
    data = read_message()
    if hashlib.sha256(data).hexdigest() != request["digest"]:
        return {"error": "a file arrived damaged"}
    path = own / request["digest"]
    path.write_bytes(data)
    return {"path": str(path)}


def unpack(own: Path, request: Answer) -> Answer:
    """The pushed archives as one importable folder in the cache, put there in one step."""
    place = CACHE / request["key"]
    CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=CACHE, prefix="new-"))
    try:
        for digest in request["digests"]:
            path = own / digest
            with zipfile.ZipFile(path) as archive:
                archive.extractall(beside)
            path.unlink()
        if not place.is_dir():
            beside.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return {"path": str(place)}


def run(own: Path, request: Answer) -> Answer:
    """One job in a process group of its own; it is killed when the connection ends or the limit is reached."""
    environment = dict(os.environ, PYTHONPATH=request["path"], ORT_DISABLE_TELEMETRY="1")
    environment.update(PYTHONDONTWRITEBYTECODE="1", TMPDIR=str(own))
    with tempfile.TemporaryFile(dir=own) as said, tempfile.TemporaryFile(dir=own) as complained:
        child = subprocess.Popen(
            [sys.executable, "-m", "edgeward.measure.agentless"],
            cwd=own,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=complained,
            start_new_session=True,
        )
        try:
            if child.stdin is not None:
                child.stdin.write(request["job"].encode())
                child.stdin.close()
            wait(child)
        finally:
            end_session(child.pid)
        said.seek(0)
        complained.seek(0)
        complaint = complained.read().decode(errors="replace")[-2000:]
        return {"code": child.returncode, "output": said.read().decode(), "complaint": complaint}


def wait(child: "subprocess.Popen[bytes]") -> None:
    """Until it ends. Nothing is sent to us meanwhile: readable input is the end of the connection."""
    while child.poll() is None:
        if select.select([INPUT], [], [], 0.05)[0]:
            raise EOFError


def end_session(session: int) -> None:
    """Ends the job and what it started: those measure in sessions of their own, and leave when their pipe closes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


def answer(own: Path, request: Answer) -> Answer:
    try:
        if request["do"] == "hello":
            return hello()
        if request["do"] == "has":
            place = CACHE / request["key"]
            return {"path": str(place) if place.is_dir() else None}
        return {"put": put, "unpack": unpack, "run": run}[request["do"]](own, request)
    except OSError as error:
        return {"error": f"{error.filename or own}: {error.strerror}"}


def main() -> None:
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    try:
        own = Path(tempfile.mkdtemp(prefix="edgeward-"))
    except OSError as error:
        say({"error": f"no temporary folder can be made: {error.strerror}"})
        return
    try:
        while True:
            request = json.loads(read_message())
            reply = answer(own, request)
            say(reply)
            if "error" in reply:
                return
    except (EOFError, BrokenPipeError):
        pass
    finally:
        shutil.rmtree(own, ignore_errors=True)


if __name__ == "__main__":
    main()
