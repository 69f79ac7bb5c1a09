"""Gathers the facts that the doctor judges, on this machine or from a recorded tree."""

import errno
import locale
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec

from edgeward.kit import files, process
from edgeward.kit.clock import Clock
from edgeward.kit.errors import EdgewardError
from edgeward.measure import accelerators, cgroups, conditions, machine, smoke, sysfs, tried
from edgeward.measure.doctor import Facts
from edgeward.measure.system_facts import Tried, read_system
from edgeward.records.target import AcceleratorFound, RuntimeFound

CPU_LIMITS = ("sys/fs/cgroup/cpu.max", "sys/fs/cgroup/*/cpu.max", "sys/fs/cgroup/cpu*/cpu.cfs_quota_us")
INPUTS = ("dev/video*", "dev/snd/pcm*c", "dev/i2c-*", "dev/gpiochip*", "dev/ttyUSB*", "dev/ttyACM*", "dev/vcio")


def gather(clock: Clock, root: Path = sysfs.ROOT, runtimes: tuple[RuntimeFound, ...] | None = None) -> Facts:
    """The facts of this machine. Python, locale and the home folder are never read from a recorded tree, nor are
    `runtimes`, which are tried where they are not given."""
    here = msgspec.convert(tried.look(list(nodes()), list(CPU_LIMITS)), Tried) if root == sysfs.ROOT else Tried()
    runtimes = smoke.runtimes_found(machine.cpu_features()) if runtimes is None else runtimes
    found = accelerators.find(root, offered={name for one in runtimes if one.works for name in one.providers})
    closed = {one.node: accelerators.closed_to_user(root / one.node.lstrip("/")) for one in found if one.node}
    folder = key_folder()
    return facts_of(
        root,
        here,
        found,
        now=clock.now(),
        python=platform.python_version(),
        runtimes=runtimes,
        telemetry_switch=os.environ.get("ORT_DISABLE_TELEMETRY"),
        storage_free_bytes=files.free_bytes(root),
        pi_throttled=_pi_throttled(root),
        closed_nodes={**here.closed_nodes, **{node: group for node, group in closed.items() if group}},
        text_encoding=locale.getpreferredencoding(do_setlocale=False),
        key_folder=str(folder),
        key_folder_fault=folder_fault(folder),
    )


def nodes() -> tuple[str, ...]:
    """Patterns of the device nodes that a person may want to open."""
    return (
        *INPUTS,
        "dev/dri/renderD*",
        "dev/accel/accel*",
        *(one for fam in accelerators.FAMILIES for one in fam.nodes),
    )


def facts_of(root: Path, here: Tried, found: tuple[AcceleratorFound, ...], **own: Any) -> Facts:
    """The facts that stand in the files below `root`, with `own` beside them."""
    memory = sysfs.fields(root / "proc/meminfo")
    return Facts(
        **own,
        pointer_bits=here.pointer_bits,
        kernel_arch=here.kernel_arch,
        memory_bytes=sysfs.kibibytes(memory.get("MemTotal")),
        memory_available_bytes=sysfs.kibibytes(memory.get("MemAvailable")),
        memory_pressure=machine.memory_pressure(root),
        swap_bytes=sysfs.kibibytes(memory.get("SwapTotal")),
        swap_free_bytes=sysfs.kibibytes(memory.get("SwapFree")),
        conditions=conditions.conditions(root),
        accelerators=found,
        usable_cpu_count=here.usable_cpu_count or conditions.cpu_count(root),
        cpu_limit=cgroups.cpu_limit(root),
        memory_limit_bytes=cgroups.memory_limit_bytes(root),
        system=read_system(root, here),
    )


def key_folder() -> Path:
    """Where a person's signing key is kept; a user without a home folder would need one under /."""
    try:
        home = Path.home()
    except RuntimeError:
        home = Path("/")
    return Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "edgeward"


def folder_fault(folder: Path) -> str | None:
    """Why nothing could be written into `folder`, which need not exist yet; None when it could."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"{place} is a file"
    if os.access(place, os.W_OK | os.X_OK):
        return None
    read_only = os.statvfs(place).f_flag & os.ST_RDONLY
    return f"{place} is read-only" if read_only else f"{place}: {os.strerror(errno.EACCES).lower()}"


def _pi_throttled(root: Path) -> int | None:
    """From the kernel, else from the firmware's own tool, which newer kernels leave as the only way."""
    word = conditions.pi_throttled(root)
    if word is not None or root != sysfs.ROOT or shutil.which("vcgencmd") is None:
        return word
    try:
        finished = process.run(["vcgencmd", "get_throttled"], limit_s=5)
    except (EdgewardError, OSError):
        return None
    found = re.search(rb"throttled=0x([0-9a-fA-F]+)", finished.output)
    return int(found.group(1), 16) if found else None
