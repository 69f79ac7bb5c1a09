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
import time
import zipfile
from pathlib import Path
from typing import IO, Any

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeward" / "runner"
INPUT = 0
RUNTIMES = ("onnxruntime", "ai_edge_litert", "openvino")
KEPT_INPUT_BYTES = 1 << 30
WANTED = (11, 12, 13, 14)
"""The minor versions of Python that our rooms and the wheels of the runtimes are for, the best first."""
CHILDREN: "dict[int, tuple[subprocess.Popen[bytes], IO[bytes]]]" = {}
"""Those that hold a loaded model, by process id, with what they complain of."""
KEPT: "dict[str, int]" = {}
"""The inputs that stay for the models to come: digests and bytes."""
Answer = dict[str, Any]


class Ended(Exception):
    """A child ended, or was ended, before it answered."""


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


def say(data: bytes) -> None:
    sys.stdout.buffer.write(len(data).to_bytes(8, "little") + data)
    sys.stdout.buffer.flush()


def arch() -> str:
    """What Python here is built for: a 32-bit one on a 64-bit kernel is what many a Raspberry Pi runs."""
    machine = platform.machine()
    small = sys.maxsize < 2**32
    return "armv7l" if small and machine in ("aarch64", "armv8l", "armv6l") else machine


def emulated() -> bool:
    """Whether another processor plays ours: user emulation hides in /proc/self but not beside it, a whole emulated
    machine names its maker, and a kernel's account of an x86 is no Arm's."""
    with contextlib.suppress(OSError):
        if "qemu" in Path("/proc/thread-self/exe").readlink().name:
            return True
    try:
        fields = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        return False
    foreign = arch() == "aarch64" and any(name.strip() == "vendor_id" for name, _, _ in fields)
    return foreign or any(value.strip().startswith("QEMU") for _, _, value in fields)


def hello() -> Answer:
    return {
        "python": list(sys.version_info[:2]),
        "arch": arch(),
        "libc": list(platform.libc_ver()),
        "emulated": emulated(),
        "found": [name for name in RUNTIMES if importlib.util.find_spec(name)],
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
    """A pushed archive as an importable folder in the cache, put there in one step."""
    archive, place = own / request["digest"], CACHE / request["digest"]
    CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=CACHE, prefix="new-"))
    try:
        if "program" in request:  # a Python of our own, and what starts it
            shutil.unpack_archive(archive, beside, "gztar")
            program = beside / "python"
            program.write_text(request["program"].format(root=place, program=place / "python"))
            program.chmod(0o755)
        else:
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(beside)
        archive.unlink()
        os.sync()  # else a power cut may leave the folder with empty files in it
        with contextlib.suppress(OSError):  # another run may have put it there meanwhile
            beside.rename(place)
        if not place.is_dir():
            return {"error": f"{place}: cannot be made"}
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return {"path": str(place)}


def start(own: Path, request: Answer, module: str, output: "IO[bytes] | int", complaint: IO[bytes]) -> Any:
    """A child in a process group of its own, which imports from the pushed folders first."""
    environment = dict(os.environ, PYTHONPATH=request["path"], ORT_DISABLE_TELEMETRY="1")
    environment.update(PYTHONDONTWRITEBYTECODE="1", TMPDIR=str(own))
    return subprocess.Popen(
        [request.get("python", sys.executable), "-m", module],
        cwd=own, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=complaint, start_new_session=True,
    )  # fmt: skip


def run(own: Path, request: Answer) -> Answer:
    """One job to its end; it is killed when the connection ends."""
    with tempfile.TemporaryFile(dir=own) as said, tempfile.TemporaryFile(dir=own) as complaint:
        child = start(own, request, "edgeward.measure.agentless", said, complaint)
        try:
            child.stdin.write(request["job"].encode())
            child.stdin.close()
            wait(child)
        finally:
            end(child)
        said.seek(0)
        return {"code": child.returncode, "output": said.read().decode(), "complaint": end_of(complaint)}


def wait(child: "subprocess.Popen[bytes]") -> None:
    """Until it ends. Nothing is sent to us meanwhile: readable input is the end of the connection."""
    while child.poll() is None:
        if select.select([INPUT], [], [], 0.05)[0]:
            raise EOFError


def end(child: "subprocess.Popen[bytes]") -> None:
    """Ends a child; what it started itself leaves when its pipe closes."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for pipe in filter(None, (child.stdin, child.stdout)):
        with contextlib.suppress(OSError):
            pipe.close()


def end_of(complaint: IO[bytes]) -> str:
    complaint.seek(0)
    return complaint.read().decode(errors="replace")[-2000:]


def load(own: Path, request: Answer) -> Answer:
    """Starts a child that loads the model which the message after this one names; its first answer follows ours."""
    message = read_message()
    complaint = tempfile.TemporaryFile(dir=own)  # noqa: SIM115 - closed with the child
    child = start(own, request, request.get("module", "edgeward.measure.worker"), subprocess.PIPE, complaint)
    CHILDREN[child.pid] = (child, complaint)
    return {"child": child.pid, **told(child.pid, message, request["limit_s"])}


def feed(own: Path, request: Answer) -> Answer:
    """Inputs for a loaded model: those that follow, or those of that digest which came before."""
    path = own / request["digest"]
    message = read_message() if request["follows"] else path.read_bytes()
    kept = not request["follows"] or keep(path, message)
    return {"kept": kept, **told(request["child"], message, request["limit_s"])}


def keep(path: Path, message: bytes) -> bool:
    """Keeps inputs for the models to come, where they take little of the room there is."""
    if sum(KEPT.values()) + len(message) > min(KEPT_INPUT_BYTES, shutil.disk_usage(path.parent).free // 4):
        return False
    try:
        path.write_bytes(message)
    except OSError:
        path.unlink(missing_ok=True)
        return False
    KEPT[path.name] = len(message)
    return True


def told(number: int, message: bytes, limit_s: float) -> Answer:
    """What a loaded model's child answers; how it ended, where it did."""
    child, complaint = CHILDREN[number]
    try:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(len(message).to_bytes(8, "little") + message)  # type: ignore[union-attr]
            child.stdin.flush()  # type: ignore[union-attr]
        deadline = time.monotonic() + limit_s
        length = int.from_bytes(heard(child, 8, deadline), "little")
        return {"follows": heard(child, length, deadline)}
    except Ended as error:
        end(child)
        return {"code": child.returncode, "complaint": str(error) or end_of(complaint)}


def heard(child: "subprocess.Popen[bytes]", count: int, deadline: float) -> bytes:
    """So many bytes of what it says."""
    output, parts = child.stdout.fileno(), []  # type: ignore[union-attr]
    while count:
        ready = select.select([INPUT, output], [], [], max(0.0, deadline - time.monotonic()))[0]
        if INPUT in ready:
            raise EOFError
        if not ready:
            raise Ended("it did not answer in time")
        part = os.read(output, min(count, 1 << 20))
        if not part:
            raise Ended
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def close(number: int) -> Answer:
    child, complaint = CHILDREN.pop(number)
    end(child)
    complaint.close()
    return {}


def answer(own: Path, request: Answer) -> Answer:
    try:
        if request["do"] == "hello":
            return hello()
        if request["do"] == "has":
            return {"paths": [str(CACHE / digest) for digest in request["digests"] if (CACHE / digest).is_dir()]}
        if request["do"] == "close":
            return close(request["child"])
        verbs = {"put": put, "unpack": unpack, "run": run, "load": load, "feed": feed}
        return verbs[request["do"]](own, request)
    except OSError as error:
        return {"error": f"{error.filename or own}: {error.strerror}"}


def serve(own: Path) -> None:
    """Answers until the connection ends; what follows an answer stands in the same message, after a newline."""
    while True:
        reply = answer(own, json.loads(read_message()))
        following = reply.pop("follows", None)
        said = json.dumps(dict(reply, follows=following is not None)).encode()
        say(said + b"\n" + (following or b""))
        if "error" in reply:
            return


def go_over_to_a_newer_python() -> None:
    """Where python3 is older than our rooms want, another one that the user installed beside it takes over."""
    if sys.version_info >= (3, WANTED[0]):
        return
    places = [*os.environ.get("PATH", "").split(":"), "/usr/local/bin", str(Path.home() / ".local" / "bin")]
    places += map(str, Path.home().glob(".local/share/uv/python/*/bin"))
    places += map(str, Path.home().glob(".pyenv/versions/*/bin"))
    for minor in WANTED:
        found = shutil.which(f"python3.{minor}", path=":".join(places))
        if (
            found
            and subprocess.call([found, "-c", "import ctypes"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            == 0
        ):
            command = Path("/proc/self/cmdline").read_bytes().split(b"\0")
            os.execv(found, [found.encode(), b"-c", command[2]])  # noqa: S606 - the same text, without a shell


def main() -> None:
    go_over_to_a_newer_python()
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    try:
        own = Path(tempfile.mkdtemp(prefix="edgeward-"))
    except OSError as error:
        say(json.dumps({"error": f"no temporary folder can be made: {error.strerror}"}).encode())
        return
    try:
        with contextlib.suppress(EOFError, BrokenPipeError):
            serve(own)
    finally:
        for child, _ in CHILDREN.values():
            end(child)
        shutil.rmtree(own, ignore_errors=True)


if __name__ == "__main__":
    main()
