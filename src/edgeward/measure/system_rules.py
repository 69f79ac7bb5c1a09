"""What the doctor thinks of disk, memory, clock, kernel, limits and versions. Rules only: facts to findings."""

from collections.abc import Iterator

from edgeward.measure.system_facts import System, Versions
from edgeward.records.target import Finding

_SLOW_FSYNC_MS = 50
_FEWEST_INODES = 10_000
_LONGEST_JUMP_S = 3600
_RTC_APART_S = 120
_SMALLEST_LOCK_BYTES = 64 << 20
_WORN_TENTHS = 9


def examine_system(facts: System) -> Iterator[Finding]:
    """Each check's finding, in the order of the room: versions, disk, memory, clock, kernel, limits."""
    yield from (_versions(one) for one in facts.versions)
    yield _disk_state(facts)
    yield _inodes(facts)
    yield from _wear(facts)
    yield _fsync(facts)
    yield _oom(facts)
    yield _swappiness(facts)
    yield _clock_sync(facts)
    yield _clock_jump(facts)
    yield _cgroups(facts)
    yield _kernel(facts)
    yield _tracing(facts)
    yield _perf(facts)
    yield from _real_time(facts)
    yield _memory_lock(facts)
    yield _enforcement(facts)


def _versions(one: Versions) -> Finding:
    check = f"versions-{one.kind}"
    parts = (("driver", one.driver), ("library", one.library), ("Python package", one.runtime))
    triple = ", ".join(f"{name} {version or 'not found'}" for name, version in parts)
    fault = _misfit(one)
    if fault is None:
        level = "ok" if one.library or one.runtime else "note"
        return Finding(check=check, level=level, message=f"{one.kind}: {triple}")  # type: ignore[arg-type]
    wanted, mend, level = fault
    return Finding(
        check=check, level=level, message=f"{one.kind}: {triple}; wanted {wanted}", mend=mend,  # type: ignore[arg-type]
        wanted=wanted, got=triple,
    )  # fmt: skip


def _misfit(one: Versions) -> tuple[str, str, str] | None:
    """What would fit, the command that gets it, and how bad it is; None where nothing speaks against it."""
    driver, library, runtime = one.driver or "", one.library, one.runtime
    if one.kind == "hailo" and any(version not in (None, driver) for version in (library, runtime)):
        mend = "sudo apt-get install --reinstall hailo-all  # driver, library and Python package of one release"
        return "the same version three times: HailoRT refuses any other", mend, "problem"
    if one.kind == "nvidia" and library not in (None, driver):
        return "the library of the loaded driver; the driver was updated since the start", "sudo reboot", "problem"
    if one.kind == "nvidia" and runtime and _numbers(driver) < (525,):
        return "a driver of 525 or newer, as CUDA 12 needs", "sudo apt-get install nvidia-driver", "problem"
    if one.kind == "jetson" and library and _jetpack_tensorrt(driver) not in (None, _numbers(library)[0]):
        major = _jetpack_tensorrt(driver)
        mend = "sudo apt-get install --reinstall nvidia-jetpack"
        return f"TensorRT {major}, as this release of L4T brings", mend, "warning"
    if one.kind == "rockchip" and _numbers(driver) < (0, 9, 2):
        mend = "sudo apt-get update && sudo apt-get full-upgrade  # a newer kernel of the board's maker"
        return "the driver rknpu 0.9.2 or newer", mend, "warning"
    return None


def _jetpack_tensorrt(driver: str) -> int | None:
    """The major version of TensorRT in the JetPack of a release of L4T, where it is one alone."""
    release = _numbers(driver.removeprefix("L4T "))
    if release[0] <= 35:
        return 8
    return 10 if release >= (36, 4) else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit()) or (0,)


def _disk_state(facts: System) -> Finding:
    device = facts.root_device or "the root device"
    if facts.file_system_errors:
        message = f"the file system has recorded {facts.file_system_errors} errors; data may be lost"
        mend = f"sudo e2fsck -fn {device}  # looks only; mend it from another system, unmounted, with -fy"
        return _found("disk-health", "problem", message, mend, where=device)
    if facts.root_read_only or facts.tried.read_only:
        message = f"{device} is mounted read-only, by design or after a fault; nothing can be kept"
        return _found("disk-health", "problem", message, "sudo dmesg | grep -i 'remount\\|i/o error'", where=device)
    return _found("disk-health", "ok", "the root file system can be written and has recorded no errors")


def _inodes(facts: System) -> Finding:
    free = facts.tried.inodes_free
    if free is not None and free < _FEWEST_INODES:
        message = f"room for {free} more files only, whatever space is free (wanted {_FEWEST_INODES})"
        return _found("inodes", "warning", message, "sudo du --inodes -xd2 / | sort -n | tail")
    return _found("inodes", "ok", "room for more files is unknown" if free is None else f"room for {free} more files")


def _wear(facts: System) -> Iterator[Finding]:
    for one in facts.wear:
        check, where = f"wear-{one.device}", f"/dev/{one.device}"
        used = f"over {(one.life_tenths - 1) * 10} % of its life used"
        mend = f"sudo dd if={where} of=/media/backup.img bs=4M status=progress  # then replace it"
        if one.life_tenths > _WORN_TENTHS or one.reserve >= 3:
            yield _found(check, "problem", f"{where}: {used}; it may fail at any time", mend, where=where)
        elif one.life_tenths >= _WORN_TENTHS - 1 or one.reserve == 2:
            yield _found(check, "warning", f"{where}: {used}; plan its replacement", mend, where=where)
        else:
            yield _found(check, "ok", f"{where}: {used}", where=where)


def _fsync(facts: System) -> Finding:
    took = facts.tried.fsync_ms
    if took is None:
        return _found("disk-sync", "ok", "the time to make data safe was not measured")
    if took > _SLOW_FSYNC_MS:
        message = f"making 4 kB safe takes {took:.0f} ms (wanted below {_SLOW_FSYNC_MS}); updates will be slow"
        return _found("disk-sync", "note", message, "iostat -x 1 5  # a worn or slow card shows a high w_await")
    return _found("disk-sync", "ok", f"making 4 kB safe takes {took:.1f} ms")


def _oom(facts: System) -> Finding:
    if facts.oom_kills:
        times = "once" if facts.oom_kills == 1 else f"{facts.oom_kills} times"
        message = f"the kernel killed a program {times} since the start, for want of memory"
        return _found("out-of-memory", "warning", message, "sudo dmesg | grep -i 'killed process'")
    said = "not told by this kernel" if facts.oom_kills is None else "no program was killed for want of memory"
    return _found("out-of-memory", "ok", said)


def _swappiness(facts: System) -> Finding:
    on_card = [device for device in facts.swap_devices if "mmcblk" in device or device.startswith("/var/swap")]
    if on_card and (facts.swappiness or 0) > 10:
        message = (
            f"swap on {on_card[0]} wears the card and stalls inference (vm.swappiness {facts.swappiness}, wanted 10)"
        )
        return _found("swappiness", "note", message, "sudo sysctl vm.swappiness=10", where=on_card[0])
    if any("zram" in device for device in facts.swap_devices):
        return _found("swappiness", "ok", "swap is compressed memory (zram)")
    return _found("swappiness", "ok", "no swap on a card")


def _clock_sync(facts: System) -> Finding:
    behind = facts.rtc_behind_s
    if behind is not None and abs(behind) > _RTC_APART_S:
        message = (
            f"the hardware clock is {abs(behind):.0f} s {'behind' if behind > 0 else 'ahead'}; a restart will jump"
        )
        return _found("clock-sync", "warning", message, "sudo hwclock --systohc")
    if facts.tried.clock_synchronised is False:
        message = "nothing keeps the clock right; times of events will drift apart between machines"
        return _found("clock-sync", "warning", message, "sudo timedatectl set-ntp true  # or: apt-get install chrony")
    known = facts.tried.clock_synchronised is not None
    return _found("clock-sync", "ok", "the clock is kept right" if known else "who keeps the clock right is unknown")


def _clock_jump(facts: System) -> Finding:
    jump = facts.tried.clock_jump_s
    if jump is not None and jump > _LONGEST_JUMP_S:
        message = (
            f"the clock jumped {jump / 3600:.0f} h forward after the start: there is no clock that runs without power"
        )
        return _found(
            "clock-jump", "note", message, "sudo apt-get install fake-hwclock  # or fit a battery for the RTC"
        )
    return _found("clock-jump", "ok", "the clock did not jump" if jump is not None else "no jump of the clock is seen")


def _cgroups(facts: System) -> Finding:
    if facts.cgroups == "v2":
        return _found("cgroups", "ok", "control groups are version 2")
    words = {"hybrid": "version 1 and 2 at once", "v1": "version 1", "none": "not mounted"}[facts.cgroups]
    message = f"control groups are {words}, wanted version 2; limits of containers and services may not hold"
    mend = "cat /proc/cmdline  # wanted there, with systemd: systemd.unified_cgroup_hierarchy=1"
    return _found("cgroups", "note", message, mend)


def _kernel(facts: System) -> Finding:
    kind = "a real-time kernel (PREEMPT_RT)" if facts.is_real_time_kernel else "not a real-time kernel"
    pages = f"; huge pages: {facts.huge_pages}" if facts.huge_pages else ""
    return _found("kernel", "ok", f"{kind}{pages}")


def _tracing(facts: System) -> Finding:
    missing = [
        name
        for name, has in (("BTF", facts.has_btf), ("kprobes", facts.has_kprobes is not False))
        if not has
    ]  # fmt: skip
    if missing:
        message = f"this kernel is built without {' and '.join(missing)}; part of why a frame was late stays unseen"
        mend = "zgrep -E 'CONFIG_(KPROBES|DEBUG_INFO_BTF)' /proc/config.gz /boot/config-$(uname -r)"
        return _found("tracing", "note", message, mend)
    if not facts.has_tracefs:
        message = "tracefs is not mounted; tracing finds no events"
        return _found("tracing", "note", message, "sudo mount -t tracefs tracefs /sys/kernel/tracing")
    return _found("tracing", "ok", "the kernel can be traced")


def _perf(facts: System) -> Finding:
    level = facts.perf_event_paranoid
    if level is not None and level > 1 and facts.tried.uid != 0:
        message = f"this user may not count cycles in the kernel (perf_event_paranoid {level}, wanted 1)"
        return _found("perf-events", "note", message, "sudo sysctl kernel.perf_event_paranoid=1")
    return _found("perf-events", "ok", "performance counters may be read as far as the kernel has them")


def _real_time(facts: System) -> Iterator[Finding]:
    """First the trap: with RT_GROUP_SCHED a group has no real-time budget until it is given one."""
    group = facts.group
    if facts.has_rt_group_sched and facts.group_rt_runtime_us == 0:
        message = (
            "RT_GROUP_SCHED: this control group may not run anything in real time; SCHED_FIFO is refused even to root"
        )
        yield _found("rt-group", "warning", message, f"echo 100000 | sudo tee {group}/cpu.rt_runtime_us", where=group)
    elif facts.has_rt_group_sched:
        message = "RT_GROUP_SCHED: in each new group of the controller cpu SCHED_FIFO is refused until it has a budget"
        top = group or "/sys/fs/cgroup/cpu"
        yield _found("rt-group", "note", message, f"echo 100000 | sudo tee {top}/GROUP/cpu.rt_runtime_us", where=top)
    else:
        yield _found("rt-group", "ok", "no group is barred from real time")
    if facts.rt_runtime_us == -1:
        message = (
            "real-time tasks may take all of the CPU; one that spins hangs the machine (wanted 950000 µs per second)"
        )
        yield _found("rt-brake", "note", message, "sudo sysctl kernel.sched_rt_runtime_us=950000")
    refusal = facts.tried.real_time_refusal
    if refusal:
        message = f"this user may not run in real time: {refusal} (rtprio {facts.tried.real_time_limit}, wanted 50)"
        mend = f"echo '{facts.tried.user} - rtprio 50' | sudo tee /etc/security/limits.d/edgeward-rtprio.conf"
        yield _found("real-time", "note", message, mend)
    else:
        tried = facts.tried.now is not None
        yield _found("real-time", "ok", "this user may run in real time" if tried else "real time was not tried")


def _memory_lock(facts: System) -> Finding:
    limit = facts.tried.memory_lock_limit
    if limit is not None and 0 <= limit < _SMALLEST_LOCK_BYTES and facts.tried.uid != 0:
        got, wanted = f"{limit / 2**20:.0f} MiB", f"{_SMALLEST_LOCK_BYTES >> 20} MiB"
        message = f"only {got} of memory may be locked (wanted {wanted}); real-time work may wait for the disk"
        mend = f"echo '{facts.tried.user} - memlock unlimited' | sudo tee /etc/security/limits.d/edgeward-memlock.conf"
        return _found("memory-lock", "note", message, mend)
    return _found("memory-lock", "ok", "enough memory may be locked")


def _enforcement(facts: System) -> Finding:
    if facts.tried.address_limit_holds is False:
        message = "a limit on memory is accepted here and not kept; what is meant to be held back is not"
        return _found("limits-hold", "warning", message, "systemd-detect-virt; uname -a")
    tried = facts.tried.address_limit_holds is not None
    return _found("limits-hold", "ok", "a limit on memory that is set is kept" if tried else "limits were not tried")


def _found(check: str, level: str, message: str, mend: str | None = None, *, where: str | None = None) -> Finding:
    return Finding(check=check, level=level, message=message, mend=mend, where=where)  # type: ignore[arg-type]
