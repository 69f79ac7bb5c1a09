"""Runs frames.bt in bpftrace for one process, and reads what it printed."""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import NamedTuple, Self

from edgeward.kit.errors import Unsupported
from edgeward.measure import sysfs
from edgeward.measure.blame import Frame, Runner

OLDEST = (0, 12)
"""Before that, bpftrace does not end with the process that -p names."""
MOUNT_TRACEFS = "mount -t tracefs tracefs /sys/kernel/tracing"
_TRACEFS = ("sys/kernel/tracing", "sys/kernel/debug/tracing")
_START_LIMIT_S, _STOP_LIMIT_S = 30.0, 10.0
_PROBE = re.compile(r"^tracepoint:(\w+):(\w+)", re.MULTILINE)
_FRAME = re.compile(
    r"^frame (\d+) (\d+) wait (\d+) (\d+) (\d+) io (\d+) fault (\d+) (\d+) (\d+) reclaim (\d+) "
    r"irq (\d+) (-?\d+) softirq (\d+) (\d+) sleep (\d+) helpers (\d+) freq (\d+) who (\d+) (\d+) (-?\d+) ?(.*)$"
)
_DISK = re.compile(r"^@disk\[(.*)\]: (\d+)$")


class Missing(NamedTuple):
    """Why bpftrace cannot be used here, and the command that mends it."""

    why: str
    mend: str


class Seen(NamedTuple):
    """What one run of bpftrace printed: frames in their order, and bytes that others moved to and from disks."""

    frames: tuple[Frame, ...]
    disk_bytes: dict[str, int]


def missing(root: Path = sysfs.ROOT) -> Missing | None:
    """The first thing that stands in bpftrace's way, None where nothing does."""
    if shutil.which("bpftrace") is None:
        return Missing("bpftrace is not installed", "sudo apt install bpftrace")
    if os.geteuid() != 0:
        return Missing("bpftrace wants root", "sudo edgeward trace …")
    if tracefs(root) is None:
        return Missing("the kernel's trace events are not mounted", f"{MOUNT_TRACEFS}  # or --mount-tracefs")
    version = _version()
    if version is not None and version < OLDEST:
        told = ".".join(map(str, version))
        return Missing(f"bpftrace is {told}; wanted {'.'.join(map(str, OLDEST))}", "sudo apt install bpftrace")
    return None


def tracefs(root: Path = sysfs.ROOT) -> Path | None:
    """Where the kernel's trace events are mounted."""
    return next((root / place for place in _TRACEFS if (root / place / "events").is_dir()), None)


def _version() -> tuple[int, ...] | None:
    told = subprocess.run(["bpftrace", "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    found = re.search(r"v(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else None


def program(libc: str, events: Path) -> tuple[str, tuple[str, ...]]:
    """frames.bt for this C library, without the events that this kernel does not have; those are named too."""
    text = (
        (files("edgeward.measure") / "bpftrace" / "frames.bt")
        .read_text("utf-8")
        .replace("uprobe:LIBC", f"uprobe:{libc}")
    )
    kept, absent = [], []
    for block in re.split(r"\n(?=\n)", text):
        wanted = _PROBE.findall(block)
        lacking = [f"{system}:{name}" for system, name in wanted if not (events / system / name).is_dir()]
        if not lacking:
            kept.append(block)
            continue
        absent += lacking
        if len(lacking) < len(wanted):
            drop = "|".join(f"tracepoint:{name}" for name in lacking)
            left = re.sub(rf"^(?:{drop}),?\n", "", block, flags=re.MULTILINE)
            kept.append(re.sub(r",\n(?=[/{])", "\n", left))
    return "\n".join(kept), tuple(dict.fromkeys(absent))


def c_library(pid: int) -> str:
    """The C library's file that the process has mapped, as it is seen from here."""
    maps = sysfs.text(Path(f"/proc/{pid}/maps")) or ""
    found = re.search(r"\s(/\S*/(?:libc\.so\.6|libc-[\d.]+\.so|ld-musl-\S+|libc\.musl-\S+))$", maps, re.MULTILINE)
    if found is None:
        raise Unsupported(f"process {pid} has mapped no C library that is known here")
    inside = Path(f"/proc/{pid}/root{found[1]}")
    here = Path(found[1])
    return str(here if here.exists() and inside.exists() and here.samefile(inside) else inside)


class Bpftrace:
    """frames.bt at work on one process, from the beginning of the `with` block.

    Raises Unsupported with bpftrace's own word where it does not start.
    """

    def __init__(self, pid: int, *, late_ns: int, every: int) -> None:
        text, self.absent = program(c_library(pid), (tracefs() or Path("/")) / "events")
        self._source = tempfile.NamedTemporaryFile("w", suffix=".bt", prefix="edgeward-")  # noqa: SIM115 - until stop
        self._source.write(text)
        self._source.flush()
        self._output = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - the same
        numbers = map(str, (pid, max(1, late_ns), max(1, every)))
        self._process = subprocess.Popen(
            ["bpftrace", "-B", "line", "-p", str(pid), self._source.name, *numbers],
            stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=_end_with_parent,
        )  # fmt: skip
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_until_ready(self) -> None:
        limit = monotonic() + _START_LIMIT_S
        while "\nready\n" not in f"\n{self._text()}":
            if self._process.poll() is not None or monotonic() > limit:
                raise Unsupported(f"bpftrace does not start here: {_complaint(self._text())}")
            sleep(0.02)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> Seen:
        """Ends it, and says what it saw; a repeat says the same."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._source.close()
        return parse(self._text().splitlines())

    def _text(self) -> str:
        return os.pread(self._output.fileno(), 1 << 28, 0).decode(errors="replace")


def parse(lines: Sequence[str]) -> Seen:
    """The frames and bytes in bpftrace's output; other lines are its own affair."""
    disk = {found[1]: int(found[2]) for line in lines if (found := _DISK.match(line))}
    return Seen(tuple(_frames(lines)), disk)


def _frames(lines: Sequence[str]) -> Iterator[Frame]:
    for line in lines:
        found = _FRAME.match(line)
        if found is None:
            continue
        (number, took, waited, preempted, blocked, disk, fault_disk, faults, major, reclaim, irq_ns, irq, softirq_ns,
         softirq, slept, helpers, frequency, who_ns, who_pid, who_priority) = map(int, found.groups()[:-1])  # fmt: skip
        runner = Runner(name=found[21], pid=who_pid, priority=who_priority, ns=who_ns) if who_ns else None
        yield Frame(
            number=number, took_ns=took, waited_ns=waited, preempted=preempted, blocked=blocked, disk_ns=disk,
            fault_disk_ns=fault_disk, minor_faults=max(0, faults - major), major_faults=major, reclaim_ns=reclaim,
            irq_ns=irq_ns, irq=irq, softirq_ns=softirq_ns, softirq=softirq, slept_ns=slept, helpers_ns=helpers,
            frequency_khz=frequency, runner=runner,
        )  # fmt: skip


def _complaint(text: str) -> str:
    """The line that says what is wrong, without what bpftrace only warns of."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "RLIMIT_MEMLOCK" not in line]
    told = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "it said nothing")
    return told.removeprefix("ERROR: ")[:200]


def _end_with_parent() -> None:
    """The kernel stops bpftrace when edgeward is killed, so that none is left behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGINT)
