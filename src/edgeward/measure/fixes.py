"""The findings that can be mended without losing anything: what is done, and how it is undone."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeward.kit import files
from edgeward.measure import sysfs
from edgeward.measure.doctor import Facts
from edgeward.records.base import Record
from edgeward.records.target import Finding

_LIMITS = "etc/security/limits.d"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fix:
    """One change: `text` written into each of `files`, or `command` run; what it `does`, and what would `undo` it."""

    check: str
    does: str
    undo: str
    files: tuple[str, ...] = ()
    text: str = ""
    command: tuple[str, ...] = ()


class Done(Record):
    """What became of a fix: done, or why not."""

    check: str
    does: str
    done: bool
    reason: str
    undo: str


def fixes_for(findings: tuple[Finding, ...], facts: Facts, root: Path = sysfs.ROOT) -> tuple[Fix, ...]:
    """The safe ones among what would mend the findings, in their order. What is in order already is not in them."""
    faulty = {one.check: one for one in findings if one.level != "ok"}
    return tuple(fix for check in faulty if check in _MAKERS for fix in _MAKERS[check](facts, root))


def apply(fix: Fix, root: Path = sysfs.ROOT) -> Done:
    """Does it. A repeat does it again, to the same end; what this user may not do is told, and nothing is half done."""
    try:
        reason = _run(fix.command) if fix.command else _write(fix, root)
    except OSError as error:
        reason = f"{error.filename or fix.check}: {error.strerror}"
        if isinstance(error, PermissionError) and os.geteuid() != 0:
            reason += "; it needs root: sudo edgeward doctor --fix"
    return Done(check=fix.check, does=fix.does, done=not reason, reason=reason, undo="" if reason else fix.undo)


def _write(fix: Fix, root: Path) -> str:
    """The first file that may not be written ends it before anything is changed. "" when all went well."""
    paths = [root / name for name in fix.files]
    for path in paths:
        place = path if path.exists() else path.parent
        if not os.access(place, os.W_OK):
            raise PermissionError(13, "permission denied", str(path))
    for path in paths:
        # What the kernel shows as a file cannot be replaced by another one.
        path.write_text(fix.text) if path.exists() else files.write_atomic(path, fix.text.encode())
    kept = [sysfs.text(path) for path in paths if sysfs.text(path) != fix.text.strip()]
    return f"the kernel kept {kept[0]!r}" if kept else ""


def _run(command: tuple[str, ...]) -> str:
    if os.geteuid() != 0:
        return "it needs root: sudo edgeward doctor --fix"
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
    except FileNotFoundError:
        return f"there is no {command[0]} on this machine"
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not end within 30 s"
    complaint = (done.stderr or done.stdout).strip().splitlines()
    return "" if done.returncode == 0 else complaint[-1] if complaint else f"exit code {done.returncode}"


def _governor(_facts: Facts, root: Path) -> Iterator[Fix]:
    policies = sysfs.entries(root / "sys/devices/system/cpu/cpufreq", "policy*")
    by_governor: dict[str, list[str]] = {}
    for policy in policies:
        before = sysfs.text(policy / "scaling_governor")
        if before and before != "performance":
            by_governor.setdefault(before, []).append(str((policy / "scaling_governor").relative_to(root)))
    for before, names in by_governor.items():
        places = " ".join(f"/{name}" for name in names)
        yield Fix(
            check="governor", does=f"CPU governor {before} → performance, until the next start", files=tuple(names),
            text="performance", undo=f"echo {before} | sudo tee {places}",
        )  # fmt: skip


def _sysctl(check: str, name: str, value: int) -> Callable[[Facts, Path], Iterator[Fix]]:
    file = f"proc/sys/{name.replace('.', '/')}"

    def make(_facts: Facts, root: Path) -> Iterator[Fix]:
        before = sysfs.number(root / file)
        if before is not None and before != value:
            does = f"{name} {before} → {value}, until the next start"
            yield Fix(check=check, does=does, files=(file,), text=str(value), undo=f"sudo sysctl {name}={before}")

    return make


def _rt_group(facts: Facts, _root: Path) -> Iterator[Fix]:
    group = facts.system.group
    if group and facts.system.group_rt_runtime_us == 0:
        file = f"{group.lstrip('/')}/cpu.rt_runtime_us"
        does = f"real-time budget of {group} 0 → 100000 µs of each second"
        yield Fix(check="rt-group", does=does, files=(file,), text="100000", undo=f"echo 0 | sudo tee /{file}")


def _limit(check: str, item: str, value: str) -> Callable[[Facts, Path], Iterator[Fix]]:
    def make(facts: Facts, root: Path) -> Iterator[Fix]:
        file = f"{_LIMITS}/edgeward-{item}.conf"
        text = f"{facts.system.tried.user} - {item} {value}"
        if (root / _LIMITS).is_dir() and sysfs.text(root / file) != text:
            does = f"wrote /{file}: {text}; it holds from the next login"
            yield Fix(check=check, does=does, files=(file,), text=text + "\n", undo=f"sudo rm /{file}")

    return make


def _tracing(facts: Facts, _root: Path) -> Iterator[Fix]:
    if not facts.system.has_tracefs and facts.system.has_btf and facts.system.has_kprobes is not False:
        place = "/sys/kernel/tracing"
        command = ("mount", "-t", "tracefs", "tracefs", place)
        yield Fix(check="tracing", does=f"mounted tracefs at {place}", command=command, undo=f"sudo umount {place}")


def _clock_sync(facts: Facts, root: Path) -> Iterator[Fix]:
    if facts.system.tried.clock_synchronised is False and (root / "run/systemd/system").is_dir():
        command = ("timedatectl", "set-ntp", "true")
        undo = "sudo timedatectl set-ntp false"
        yield Fix(check="clock-sync", does="time is kept from the network (timedatectl)", command=command, undo=undo)


_MAKERS: dict[str, Callable[[Facts, Path], Iterator[Fix]]] = {
    "governor": _governor,
    "swappiness": _sysctl("swappiness", "vm.swappiness", 10),
    "perf-events": _sysctl("perf-events", "kernel.perf_event_paranoid", 1),
    "rt-brake": _sysctl("rt-brake", "kernel.sched_rt_runtime_us", 950000),
    "rt-group": _rt_group,
    "real-time": _limit("real-time", "rtprio", "50"),
    "memory-lock": _limit("memory-lock", "memlock", "unlimited"),
    "tracing": _tracing,
    "clock-sync": _clock_sync,
}
