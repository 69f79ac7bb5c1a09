"""What is wrong with a machine, and the command that mends it. Rules only: facts come in, findings go out."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from edgeward.measure.conditions import Conditions
from edgeward.measure.system_facts import System
from edgeward.measure.system_rules import examine_system
from edgeward.records.target import AcceleratorFound, Finding, RuntimeFound

MB = 10**6
OLDEST_YEAR = 2026
"""No clock that is right shows an earlier year: this code did not exist."""

Level = Literal["ok", "note", "warning", "problem"]
_SEVERITY: tuple[Level, ...] = ("problem", "warning", "note", "ok")
_PI_NOW = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_MEND_POWER = "vcgencmd get_throttled  # 0x0 once it runs on its maker's power supply"
_MEND_HEAT = "sensors  # then a heat sink, a fan or less load"
_TURN_ON_PERFORMANCE = "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the doctor looks at. None where the machine does not say.

    `closed_nodes` maps a device node that this user may not open to the group that may. `pi_throttled` is the
    Raspberry Pi firmware's word. `key_folder_fault` says why no signing key could be kept in `key_folder`. `host` is
    how a device was reached; its runtimes were then not tried.
    """

    now: datetime
    python: str
    pointer_bits: int
    kernel_arch: str
    runtimes: tuple[RuntimeFound, ...]
    telemetry_switch: str | None
    memory_bytes: int
    memory_available_bytes: int
    memory_pressure: float | None
    swap_bytes: int
    swap_free_bytes: int
    storage_free_bytes: int
    conditions: Conditions
    pi_throttled: int | None
    accelerators: tuple[AcceleratorFound, ...]
    closed_nodes: dict[str, str]
    usable_cpu_count: int
    cpu_limit: float | None
    memory_limit_bytes: int | None
    text_encoding: str
    key_folder: str
    key_folder_fault: str | None
    system: System
    host: str | None = None


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Every check's finding, the worst first."""
    findings = [
        _python(facts),
        *(_runtimes(facts) if facts.host is None else [_not_tried(facts.host)]),
        *([] if facts.host else [_telemetry(facts), _key_folder(facts)]),
        _memory(facts),
        _swap(facts),
        _storage(facts),
        _governor(facts),
        _throttling(facts),
        _load(facts),
        *_accelerators(facts),
        _cpu_limit(facts),
        _memory_limit(facts),
        _text_encoding(facts),
        _clock(facts),
        _device_access(facts),
        *examine_system(facts.system),
    ]
    return tuple(sorted(findings, key=lambda finding: _SEVERITY.index(finding.level)))


def _python(facts: Facts) -> Finding:
    if facts.pointer_bits == 32 and facts.kernel_arch in ("aarch64", "x86_64"):
        return Finding(
            check="python",
            level="warning",
            message=f"Python {facts.python} is a 32-bit build on a 64-bit kernel; runtimes come as 64-bit only",
            mend="getconf LONG_BIT  # 32: install the 64-bit image of the operating system",
        )
    return Finding(check="python", level="ok", message=f"Python {facts.python}, {facts.pointer_bits}-bit")


def _runtimes(facts: Facts) -> Iterator[Finding]:
    for runtime in facts.runtimes:
        name = f"{runtime.name} {runtime.version}" if runtime.version else runtime.name
        if runtime.works:
            yield Finding(check=f"runtime-{runtime.name}", level="ok", message=f"{name}: {runtime.reason}")
            continue
        others_work = any(other.works for other in facts.runtimes)
        # A build with an accelerator that this machine has not is no fault of either.
        is_absent = runtime.name.startswith("onnxruntime-") or (
            runtime.version is None and "not installed" in runtime.reason
        )
        yield Finding(
            check=f"runtime-{runtime.name}",
            level="problem" if not others_work else "note" if is_absent else "warning",
            message=f"{name} does not run: {runtime.reason}",
            mend=None if is_absent and others_work else f"pip install --force-reinstall {_package(runtime.name)}",
        )


def _not_tried(host: str) -> Finding:
    message = "no runtime was tried there, so that nothing has to be sent"
    return Finding(check="runtimes", level="ok", message=f"{message}; edgeward probe {host} tries them")


def _package(runtime: str) -> str:
    """What PyPI calls it."""
    return "ai-edge-litert" if runtime.startswith("litert") else runtime


def _telemetry(facts: Facts) -> Finding:
    if facts.telemetry_switch == "1":
        return Finding(
            check="telemetry",
            level="ok",
            message="ONNX Runtime's reports to its maker are off in every edgeward process",
        )
    return Finding(
        check="telemetry",
        level="problem",
        message=f"ONNX Runtime may report to its maker: ORT_DISABLE_TELEMETRY={facts.telemetry_switch}, wanted 1",
        mend="export ORT_DISABLE_TELEMETRY=1",
    )


def _memory(facts: Facts) -> Finding:
    free, total = facts.memory_available_bytes / MB, facts.memory_bytes / MB
    message = f"{_size(facts.memory_available_bytes)} free of {_size(facts.memory_bytes)}"
    if facts.memory_pressure is not None and facts.memory_pressure > 0.1:
        share = f"{facts.memory_pressure:.0%}"
        return _finding(
            "memory", "warning", f"{message}; tasks waited for memory {share} of the time", "ps aux --sort=-rss"
        )
    if free < 100:
        return _finding("memory", "problem", f"{message}; a runtime alone wants about 100 MB", "ps aux --sort=-rss")
    if free < 400 or free < total / 20:
        return _finding("memory", "warning", f"{message}; larger models will not fit", "ps aux --sort=-rss")
    return _finding("memory", "ok", message)


def _swap(facts: Facts) -> Finding:
    used, total = (facts.swap_bytes - facts.swap_free_bytes) / MB, facts.swap_bytes / MB
    if total and used > total / 2 and facts.memory_available_bytes < facts.memory_bytes / 5:
        message = f"{used:.0f} MB of {total:.0f} MB of swap in use; latencies will jump"
        return _finding("swap", "warning", message, "ps aux --sort=-rss")
    return _finding("swap", "ok", f"{used:.0f} MB of {total:.0f} MB of swap in use" if total else "no swap")


def _storage(facts: Facts) -> Finding:
    free = facts.storage_free_bytes / MB
    message = f"{_size(facts.storage_free_bytes)} free on disk"
    if free < 100:
        return _finding("disk", "problem", message, "sudo journalctl --vacuum-size=50M")
    return _finding("disk", "warning", message, "df -h") if free < 1000 else _finding("disk", "ok", message)


def _governor(facts: Facts) -> Finding:
    governor = facts.conditions.governor
    if governor is None:
        return _finding("governor", "ok", "no CPU frequency control is visible, as in most virtual machines")
    if governor == "performance":
        return _finding("governor", "ok", "the CPU governor is performance")
    message = f"the CPU governor is {governor}; timings vary with it"
    return _finding("governor", "note", message, _TURN_ON_PERFORMANCE)


def _throttling(facts: Facts) -> Finding:
    word = facts.pi_throttled or 0
    now = ", ".join(text for bit, text in _PI_NOW.items() if word >> bit & 1)
    past = ", ".join(text for bit, text in _PI_NOW.items() if word >> (16 + bit) & 1)
    under_voltage = word & 1 or word >> 16 & 1
    mend = _MEND_POWER if under_voltage else _MEND_HEAT
    if now or facts.conditions.throttled_now:
        message = f"held back now: {now or 'heat or power limits the clock'}{_at(facts.conditions.temperature_c)}"
        return _finding("throttling", "problem" if word & 1 else "warning", message, mend)
    if past:
        return _finding("throttling", "warning", f"held back since it was started: {past}", mend)
    if facts.conditions.throttle_count:
        message = f"the CPU throttled {facts.conditions.throttle_count} times since it was started, not now"
        return _finding("throttling", "note", message, mend)
    seen = facts.pi_throttled is not None or facts.conditions.throttle_count is not None
    return _finding("throttling", "ok", "not throttled" if seen else "not throttled as far as can be seen")


def _load(facts: Facts) -> Finding:
    load = facts.conditions.load_per_core
    if load is not None and load > 0.5:
        message = f"other work keeps the CPU busy: load {load:.2f} per core; timings will suffer"
        return _finding("load", "warning", message, "ps aux --sort=-%cpu")
    return _finding("load", "ok", "load unknown" if load is None else f"load {load:.2f} per core")


def _accelerators(facts: Facts) -> Iterator[Finding]:
    for found in facts.accelerators:
        check = f"accelerator-{found.kind}"
        group = facts.closed_nodes.get(found.node or "")
        if group:
            message = f"{found.name}: this user may not open {found.node}"
            mend = _udev_rule(found.node or "") if group == "root" else _join(group, facts.system.tried.user)
            yield _finding(check, "warning", message, mend)
        elif found.usable:
            yield _finding(check, "ok", f"{found.name}: {found.reason}")
        elif found.driver is None and found.node is None:
            yield _finding(check, "warning", f"{found.name}: {found.reason}", "sudo dmesg --level=err,warn")
        else:
            yield _finding(check, "note", f"{found.name}: {found.reason}")


def _device_access(facts: Facts) -> Finding:
    """Cameras, microphones, buses and pins; the nodes of accelerators have findings of their own."""
    told = {found.node for found in facts.accelerators}
    closed = {node: group for node, group in facts.closed_nodes.items() if node not in told}
    groups = sorted({group for group in closed.values() if group != "root"})
    if not groups:
        return _finding("device-access", "ok", "cameras, buses and pins that are there may be opened")
    nodes = [node for node, group in closed.items() if group in groups]
    more = f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
    message = f"this user may not open {', '.join(nodes[:3])}{more}; it matters for inputs of that kind"
    return _finding("device-access", "note", message, _join(",".join(groups), facts.system.tried.user))


def _join(groups: str, user: str) -> str:
    return f"sudo usermod -aG {groups} {user}  # then log in again"


def _udev_rule(node: str) -> str:
    """The node belongs to root alone, as when its maker forgot the rule."""
    name = node.rpartition("/")[2].rstrip("0123456789")
    rule = f'KERNEL=="{name}*", GROUP="render", MODE="0660"'
    file = "/etc/udev/rules.d/99-edgeward.rules"
    return f"echo '{rule}' | sudo tee -a {file} && sudo udevadm control --reload && sudo udevadm trigger"


def _cpu_limit(facts: Facts) -> Finding:
    count, taken = facts.conditions.cpu_count, facts.system.tried.cpus_taken
    if facts.cpu_limit is not None and taken is not None and taken > 1.5 * facts.cpu_limit:
        message = f"a limit of {facts.cpu_limit:g} CPUs is set and not kept: busy processes got {taken:.1f}"
        return _finding("cpu-limit", "warning", message, "cat /proc/self/cgroup; systemd-detect-virt")
    allowed = min(facts.usable_cpu_count, facts.cpu_limit or count)
    if allowed < count:
        message = f"this process may use {allowed:g} of {count} CPUs; more threads than that make it slower"
        return _finding("cpu-limit", "note", message, "cat /proc/self/cgroup; taskset -pc $$")
    return _finding("cpu-limit", "ok", f"all {count} CPUs may be used")


def _memory_limit(facts: Facts) -> Finding:
    limit = facts.memory_limit_bytes
    if limit is None or limit >= facts.memory_bytes:
        return _finding("memory-limit", "ok", "all memory may be used")
    message = f"this process may use {_size(limit)} of {_size(facts.memory_bytes)}; beyond that it is killed"
    return _finding("memory-limit", "warning" if limit < 400 * MB else "note", message, "cat /proc/self/cgroup")


def _text_encoding(facts: Facts) -> Finding:
    if facts.text_encoding.lower().replace("-", "") == "utf8":
        return _finding("locale", "ok", "text is UTF-8")
    message = f"text is {facts.text_encoding}, wanted UTF-8; names of files and labels may be garbled"
    return _finding("locale", "warning", message, "export LC_ALL=C.UTF-8")


def _clock(facts: Facts) -> Finding:
    day = f"{facts.now:%Y-%m-%d %H:%M} UTC"
    if OLDEST_YEAR <= facts.now.year < OLDEST_YEAR + 50:
        return _finding("clock", "ok", f"the clock says {day}")
    message = f"the clock says {day}; signatures and measurements would carry a wrong date"
    return _finding("clock", "problem", message, "sudo timedatectl set-ntp true")


def _key_folder(facts: Facts) -> Finding:
    if facts.key_folder_fault is None:
        return _finding("key-folder", "ok", f"a signing key can be kept in {facts.key_folder}")
    message = f"no signing key can be kept in {facts.key_folder}: {facts.key_folder_fault}"
    return _finding("key-folder", "warning", message, f"mkdir -p {facts.key_folder} && ls -ld {facts.key_folder}")


def _finding(check: str, level: Level, message: str, mend: str | None = None) -> Finding:
    return Finding(check=check, level=level, message=message, mend=mend)


def _size(count: int) -> str:
    return f"{count / MB:.0f} MB" if count < 10_000 * MB else f"{count / MB / 1000:.1f} GB"


def _at(temperature_c: float | None) -> str:
    return "" if temperature_c is None else f" at {temperature_c:.0f} °C"
