"""What one machine is and can do, read from the kernel's files; and the profile that stands for machines like it."""

import os
import platform
import re
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace

from edgeward.kit import files
from edgeward.kit.clock import Clock, SystemClock
from edgeward.measure import accelerators, conditions, probes, smoke, sysfs
from edgeward.measure.naming import board_name, hostname
from edgeward.records.target import Machine, Peaks, RuntimeFound

FEATURES = (
    "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme", "v",
)  # fmt: skip
"""The CPU features that decide which precision pays, named as Linux names them."""

_ARM_PARTS = {
    "0x41:0xd03": "Cortex-A53", "0x41:0xd04": "Cortex-A35", "0x41:0xd05": "Cortex-A55", "0x41:0xd07": "Cortex-A57",
    "0x41:0xd08": "Cortex-A72", "0x41:0xd09": "Cortex-A73", "0x41:0xd0a": "Cortex-A75", "0x41:0xd0b": "Cortex-A76",
    "0x41:0xd0c": "Neoverse N1", "0x41:0xd0d": "Cortex-A77", "0x41:0xd40": "Neoverse V1", "0x41:0xd41": "Cortex-A78",
    "0x41:0xd42": "Cortex-A78AE", "0x41:0xd44": "Cortex-X1", "0x41:0xd46": "Cortex-A510", "0x41:0xd47": "Cortex-A710",
    "0x41:0xd48": "Cortex-X2", "0x41:0xd49": "Neoverse N2", "0x41:0xd4b": "Cortex-A78C", "0x41:0xd4d": "Cortex-A715",
    "0x41:0xd4e": "Cortex-X3", "0x41:0xd4f": "Neoverse V2", "0x41:0xd80": "Cortex-A520", "0x41:0xd81": "Cortex-A720",
    "0x41:0xd82": "Cortex-X4", "0x41:0xd83": "Neoverse V3AE", "0x41:0xd84": "Neoverse V3", "0x4e:0x004": "Carmel",
}  # fmt: skip


def read_machine(root: Path = sysfs.ROOT, clock: Clock | None = None, with_peaks: bool = True) -> Machine:
    """This machine, or the recorded tree at `root`. Takes about a second, and about four more with the peaks.

    Runtimes, peaks, Python and free storage are always those of the machine this runs on.
    """
    found = smoke.runtimes_found(cpu_features())
    peaks = _peaks() if with_peaks and _onnxruntime_works(found) else None
    machine = machine_of(root, found, (clock or SystemClock()).now(), peaks)
    return replace(machine, readings=probes.readings(root))


def machine_of(root: Path, found: tuple[RuntimeFound, ...], seen_at: datetime, peaks: Peaks | None = None) -> Machine:
    """The machine of the tree at `root`, with these runtimes. Python and free storage are those of this machine."""
    memory = sysfs.fields(root / "proc/meminfo")
    offered = {provider for runtime in found if runtime.works for provider in runtime.providers}
    return Machine(
        seen_at=seen_at,
        hostname=hostname(root),
        board=board(root),
        arch=arch(root),
        cpu=cpu(root),
        cpu_count=conditions.cpu_count(root),
        cpu_features=cpu_features(root),
        memory_bytes=sysfs.kibibytes(memory.get("MemTotal")),
        memory_available_bytes=sysfs.kibibytes(memory.get("MemAvailable")),
        storage_free_bytes=files.free_bytes(root),
        kernel=sysfs.text(root / "proc/sys/kernel/osrelease") or "unknown",
        os=os_name(root),
        python=platform.python_version(),
        virtualization=conditions.virtualization(root),
        governor=conditions.governor(root),
        load=conditions.load_1_min(root) or 0.0,
        temperature_c=conditions.temperature_c(root),
        accelerators=accelerators.find(root, offered=offered),
        runtimes=found,
        peaks=peaks,
        memory_pressure=memory_pressure(root),
    )


def cpu_features(root: Path = sysfs.ROOT) -> tuple[str, ...]:
    """Those of FEATURES that every CPU of the machine has; on big.LITTLE that is what the little ones have."""
    text = sysfs.text(root / "proc/cpuinfo") or ""
    per_cpu = [set(found.split()) for found in re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)]
    per_cpu += [_riscv_features(found) for found in re.findall(r"^isa\s*:\s*(\S+)", text, re.MULTILINE)]
    common = set.intersection(*per_cpu) if per_cpu else set()
    return tuple(feature for feature in FEATURES if feature in common)


def board(root: Path = sysfs.ROOT) -> str:
    """The board's or computer's name for a person."""
    around = conditions.virtualization(root)
    return board_name(root) or (f"virtual machine ({around})" if around else "unknown")


def arch(root: Path = sysfs.ROOT) -> str:
    """What programs here are built for: x86_64, aarch64, armv7l, riscv64, or the kernel's own word."""
    if root == sysfs.ROOT:
        machine = platform.machine()
        # A 32-bit Python on a 64-bit kernel is what many a Raspberry Pi runs.
        if machine in ("aarch64", "armv8l", "armv6l") and (sys.maxsize < 2**32 or machine != "aarch64"):
            return "armv7l"
        return machine
    fields = sysfs.fields(root / "proc/cpuinfo")
    if "isa" in fields:
        return "riscv64"
    if "Features" in fields:
        return "aarch64" if "asimd" in fields["Features"].split() else "armv7l"
    return "x86_64" if "flags" in fields else "unknown"


def cpu(root: Path = sysfs.ROOT) -> str:
    """The CPU's model; on Arm the cores by kind, such as "4× Cortex-A76 + 4× Cortex-A55"."""
    text = sysfs.text(root / "proc/cpuinfo") or ""
    named = re.search(r"^(?:model name|uarch|cpu model)\s*:\s*(\S.*)$", text, re.MULTILINE)
    makers = re.findall(r"^CPU implementer\s*:\s*(\S+)", text, re.MULTILINE)
    parts = re.findall(r"^CPU part\s*:\s*(\S+)", text, re.MULTILINE)
    if makers and len(makers) == len(parts):
        keys = [f"{maker}:{part}" for maker, part in zip(makers, parts, strict=True)]
        kinds = Counter(_ARM_PARTS.get(key, f"Arm core {key}") for key in keys)
        return " + ".join(f"{count}× {kind}" for kind, count in kinds.most_common())
    return " ".join(named.group(1).split()) if named else "unknown"


def os_name(root: Path = sysfs.ROOT) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', sysfs.text(root / "etc/os-release") or "", re.MULTILINE)
    return found.group(1) if found else "Linux"


def memory_pressure(root: Path = sysfs.ROOT) -> float | None:
    """The share of the last ten seconds in which some task waited for memory, 0..1."""
    found = re.search(r"^some avg10=([0-9.]+)", sysfs.text(root / "proc/pressure/memory") or "", re.MULTILINE)
    try:
        return min(1.0, float(found.group(1)) / 100) if found else None
    except ValueError:
        return None


def usable_cpu_count() -> int:
    """The CPUs this process may run on."""
    return len(os.sched_getaffinity(0))


def _riscv_features(isa: str) -> set[str]:
    # rv64imafdcv_zba_zbb: single letters up to the first underscore.
    base = re.sub(r"^rv\d+", "", isa.partition("_")[0])
    return {"v"} if "v" in base else set()


def _onnxruntime_works(found: tuple[RuntimeFound, ...]) -> bool:
    return any(runtime.works and runtime.name == "onnxruntime" for runtime in found)


def _peaks() -> Peaks:
    from edgeward.measure.peaks import measure_peaks  # brings in ONNX Runtime, which the rest does without

    return measure_peaks(usable_cpu_count())
