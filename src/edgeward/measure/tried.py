"""What no file of the kernel tells: found by trying it, for a moment and without leaving a trace.

This file runs on a device with nothing but Python 3.9; it imports the standard library alone.
"""

from __future__ import annotations

import ctypes
import grp
import json
import locale
import mmap
import os
import platform
import pwd
import resource
import struct
import sys
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = ("hailort", "onnxruntime", "onnxruntime-gpu", "tensorrt", "rknn-toolkit-lite2", "openvino")
_FSYNCS = 5
_SPIN_S = 0.4
_STA_UNSYNC = 0x40


def main(asked: dict[str, Any]) -> None:
    """`asked` is as of snapshot.main; both answers in one line."""
    from edgeward.measure import snapshot

    files = snapshot.files(Path("/"), asked["patterns"], asked["links"])
    files.update(snapshot.names(Path("/"), asked["bare"]))
    answer = {"files": files, **snapshot.about(), "tried": look(asked["nodes"], asked["cpu_limits"])}
    sys.stdout.write(json.dumps(answer) + "\n")


def look(nodes: list[str], cpu_limits: list[str]) -> dict[str, Any]:
    """All of it, in about half a second; `nodes` and `cpu_limits` are glob patterns below the root."""
    home = os.path.expanduser("~")  # noqa: PTH111 - never raises
    disk = os.statvfs(home if os.path.isdir(home) else "/")  # noqa: PTH112
    return {
        "now": time.time(),  # noqa: TID251 - of the device, where kit.clock is not
        "user": _user(),
        "uid": os.geteuid(),
        "pointer_bits": struct.calcsize("P") * 8,
        "kernel_arch": platform.machine(),
        "text_encoding": locale.getpreferredencoding(False),
        "usable_cpu_count": len(os.sched_getaffinity(0)),
        "closed_nodes": closed_nodes(nodes),
        "storage_free_bytes": disk.f_bavail * disk.f_frsize,
        "inodes_free": disk.f_favail if disk.f_files else None,
        "read_only": bool(disk.f_flag & os.ST_RDONLY),
        "fsync_ms": fsync_ms(home),
        "clock_synchronised": clock_synchronised(),
        "clock_jump_s": clock_jump_s(),
        "real_time_limit": resource.getrlimit(resource.RLIMIT_RTPRIO)[0],
        "memory_lock_limit": resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        "real_time_refusal": real_time_refusal(),
        "address_limit_holds": address_limit_holds(),
        "cpus_taken": cpus_taken(cpu_limits),
        "packages": packages(),
    }


def closed_nodes(patterns: list[str]) -> dict[str, str]:
    """The device nodes that this user may not open, each with the group that may."""
    found = {}
    for pattern in patterns:
        for node in sorted(Path("/").glob(pattern)):
            with suppress(OSError):
                group = node.stat().st_gid
                if not os.access(node, os.R_OK | os.W_OK):
                    found[str(node)] = _group(group)
    return found


def fsync_ms(folder: str) -> float | None:
    """The median time to bring 4 KiB to the disk; in a file without a name, so that nothing can stay."""
    try:
        file = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError:
        return None
    try:
        times = []
        for _ in range(_FSYNCS):
            os.write(file, os.urandom(4096))
            begin = time.perf_counter()
            os.fsync(file)
            times.append((time.perf_counter() - begin) * 1000)
        return sorted(times)[_FSYNCS // 2]
    except OSError:
        return None
    finally:
        os.close(file)


def clock_synchronised() -> bool | None:
    """Whether the kernel believes that something keeps its clock right; None where it does not say."""
    word = (ctypes.c_int * 64)()  # struct timex; the first word 0 asks without setting anything
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(word))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    # modes, offset, freq, maxerror, esterror, status: longs of this machine, aligned, after one int
    status = ctypes.cast(word, ctypes.POINTER(ctypes.c_int))[5 * ctypes.sizeof(ctypes.c_long) // 4]
    return not status & _STA_UNSYNC


def clock_jump_s() -> float | None:
    """How far the clock went forward at once since the start: /run begins empty, so what lies there is not older."""
    try:
        started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)  # noqa: TID251 - the same
        oldest = min(entry.stat().st_mtime for entry in Path("/run").iterdir() if not entry.is_symlink())
    except (OSError, ValueError):
        return None
    return max(0.0, started - oldest) if os.path.ismount("/run") else None


def real_time_refusal() -> str | None:
    """Why a process of this user may not run under SCHED_FIFO; None where it may. Tried in a child."""

    def try_it() -> str:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError as error:
            return error.strerror or str(error)
        return "" if os.sched_getscheduler(0) == os.SCHED_FIFO else "accepted but not enforced"

    return in_child(try_it) or None


def address_limit_holds() -> bool | None:
    """Whether a limit on memory that was accepted is kept: a child allows itself little and asks for more."""

    def try_it() -> str:
        limit = 1 << 30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            mmap.mmap(-1, 4 * limit)  # address space alone: no page is touched
        except (OSError, MemoryError, OverflowError, ValueError):
            return "holds"
        return "does not hold"

    said = in_child(try_it)
    return said == "holds" if said else None


def cpus_taken(patterns: list[str]) -> float | None:
    """How many CPUs as many busy children as there are CPUs really get; None where no limit is in force to test."""
    texts = [_text(path).split() for pattern in patterns for path in Path("/").glob(pattern)]
    if not any(words and words[0] not in ("max", "-1", "0") for words in texts):
        return None
    busy = [_started(_spin) for _ in range(min(8, len(os.sched_getaffinity(0))))]
    return sum(float(one() or 0) for one in busy) / _SPIN_S


def packages() -> dict[str, str]:
    """The versions of those of PACKAGES that this Python has."""
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def in_child(work: Callable[[], str]) -> str:
    """What `work` says in a process of its own; "" where it died."""
    return _started(work)()


def _started(work: Callable[[], str]) -> Callable[[], str]:
    """`work`, begun in a process of its own; the call waits for what it says."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)

    def said() -> str:
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read().decode()
        os.waitpid(child, 0)
        return answer

    return said


def _spin() -> str:
    end = time.monotonic() + _SPIN_S
    while time.monotonic() < end:
        pass
    return str(time.process_time())


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
