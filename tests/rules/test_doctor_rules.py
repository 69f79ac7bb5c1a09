from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.measure.conditions import Conditions
from edgeward.measure.doctor import Facts, examine
from edgeward.measure.system_facts import System, Tried, Versions, Wear
from edgeward.records.target import AcceleratorFound, RuntimeFound

GB = 10**9
CALM = Conditions(
    governor="performance", load_per_core=0.05, cpu_count=4, throttle_count=0, throttled_now=False,
    virtualization=None, temperature_c=45.0,
)  # fmt: skip
WORKS = RuntimeFound(name="onnxruntime", version="1.31.1", works=True, reason="a one-node model gave the right answer")
NO_ORT = RuntimeFound(name="onnxruntime", version=None, works=False, reason="killed by SIGILL")
BROKEN = RuntimeFound(name="openvino", version=None, works=False, reason="killed by SIGILL")
HAILO = AcceleratorFound(
    kind="hailo8", name="Hailo-8", node="/dev/hailo0", driver="hailo_pci", usable=False,
    reason="edgeward has no runtime for it; HailoRT 4 drives it",
)  # fmt: skip
TRIED = Tried(
    now=1.8e9, user="pi", usable_cpu_count=4, storage_free_bytes=20 * GB, inodes_free=10**6, fsync_ms=3.0,
    clock_synchronised=True, clock_jump_s=0.0, real_time_limit=50, memory_lock_limit=-1, address_limit_holds=True,
)  # fmt: skip
SOUND = System(
    tried=TRIED, root_read_only=False, root_device="/dev/mmcblk0p2", file_system_errors=0, wear=(), swap_devices=(),
    swappiness=60, oom_kills=0, rtc_behind_s=0.0, is_real_time_kernel=False, has_btf=True, has_kprobes=True,
    has_tracefs=True, perf_event_paranoid=1, cgroups="v2", has_rt_group_sched=False, group="",
    group_rt_runtime_us=None, rt_runtime_us=950000, huge_pages="madvise", versions=(),
)  # fmt: skip
HEALTHY = Facts(
    now=datetime(2026, 11, 20, tzinfo=UTC), python="3.11.7", pointer_bits=64, kernel_arch="aarch64", runtimes=(WORKS,),
    telemetry_switch="1", memory_bytes=8 * GB, memory_available_bytes=6 * GB, memory_pressure=0.0,
    swap_bytes=GB, swap_free_bytes=GB, storage_free_bytes=20 * GB, conditions=CALM, pi_throttled=0, accelerators=(),
    closed_nodes={}, usable_cpu_count=4, cpu_limit=None, memory_limit_bytes=None, text_encoding="UTF-8",
    key_folder="/home/pi/.config/edgeward", key_folder_fault=None,
    system=SOUND,
)  # fmt: skip


def finding(check: str, **changes):
    (found,) = [one for one in examine(replace(HEALTHY, **changes)) if one.check == check]
    return found


def conditions(**changes):
    return CALM._replace(**changes)


def test_a_healthy_machine_has_nothing_but_ok():
    findings = examine(HEALTHY)
    assert {one.level for one in findings} == {"ok"}
    assert all(one.mend is None for one in findings)


@pytest.mark.parametrize(
    ("check", "level", "changes", "says", "mend"),
    [
        ("python", "warning", {"pointer_bits": 32}, "32-bit build on a 64-bit kernel", "64-bit"),
        ("runtime-onnxruntime", "problem", {"runtimes": (NO_ORT,)}, "does not run: killed by SIGILL",
            "pip install --force-reinstall onnxruntime"),
        ("runtime-openvino", "warning", {"runtimes": (WORKS, BROKEN)}, "does not run", "pip install"),
        ("telemetry", "problem", {"telemetry_switch": None}, "may report", "export ORT_DISABLE_TELEMETRY=1"),
        ("telemetry", "problem", {"telemetry_switch": "0"}, "may report", "export ORT_DISABLE_TELEMETRY=1"),
        ("memory", "problem", {"memory_available_bytes": 50 * 10**6}, "50 MB free of 8000 MB", "ps"),
        ("memory", "warning", {"memory_available_bytes": 300 * 10**6}, "larger models will not fit", "ps"),
        ("memory", "warning", {"memory_pressure": 0.4}, "waited for memory 40% of the time", "ps"),
        ("swap", "warning", {"swap_free_bytes": 0, "memory_available_bytes": GB}, "1000 MB of 1000 MB", "ps"),
        ("swap", "ok", {"swap_bytes": 0, "swap_free_bytes": 0}, "no swap", None),
        ("disk", "problem", {"storage_free_bytes": 10**6}, "1 MB free", "journalctl --vacuum-size"),
        ("disk", "warning", {"storage_free_bytes": 500 * 10**6}, "500 MB free", "df -h"),
        ("governor", "note", {"conditions": conditions(governor="ondemand")}, "ondemand", "tee /sys/devices"),
        ("governor", "ok", {"conditions": conditions(governor=None)}, "no CPU frequency control", None),
        ("throttling", "warning", {"conditions": conditions(throttled_now=True)}, "held back now", "sensors"),
        ("throttling", "problem", {"pi_throttled": 0x50005}, "now: under-voltage, throttled at 45", "power supply"),
        ("throttling", "warning", {"pi_throttled": 0x50000}, "since it was started: under-voltage, throttled", "power"),
        ("throttling", "warning", {"pi_throttled": 0x80000}, "soft temperature limit", "sensors"),
        ("throttling", "note", {"conditions": conditions(throttle_count=9)}, "throttled 9 times", "sensors"),
        ("load", "warning", {"conditions": conditions(load_per_core=1.5)}, "load 1.50 per core", "ps"),
        ("load", "ok", {"conditions": conditions(load_per_core=None)}, "load unknown", None),
        ("cpu-limit", "note", {"usable_cpu_count": 2}, "2 of 4 CPUs", "taskset"),
        ("cpu-limit", "note", {"cpu_limit": 1.5}, "1.5 of 4 CPUs", "cgroup"),
        ("memory-limit", "note", {"memory_limit_bytes": GB}, "1000 MB of 8000 MB", "cgroup"),
        ("memory-limit", "warning", {"memory_limit_bytes": 10**8}, "100 MB of 8000 MB", "cgroup"),
        ("memory-limit", "ok", {"memory_limit_bytes": 9 * GB}, "all memory", None),
        ("locale", "warning", {"text_encoding": "ANSI_X3.4-1968"}, "wanted UTF-8", "export LC_ALL=C.UTF-8"),
        ("clock", "problem", {"now": datetime(1970, 1, 1, tzinfo=UTC)}, "1970-01-01", "timedatectl set-ntp true"),
        ("key-folder", "warning", {"key_folder_fault": "/home is read-only"}, "read-only", "mkdir -p"),
        ("accelerator-hailo8", "note", {"accelerators": (HAILO,)}, "HailoRT 4 drives it", None),
        ("accelerator-hailo8", "warning", {"accelerators": (HAILO,), "closed_nodes": {"/dev/hailo0": "render"}},
            "may not open /dev/hailo0", "sudo usermod -aG render pi"),
    ],
)  # fmt: skip
def test_each_fault_is_found_with_its_weight_and_what_mends_it(check, level, changes, says, mend):
    found = finding(check, **changes)
    assert found.level == level
    assert says in found.message
    assert (found.mend is None) if mend is None else (mend in (found.mend or ""))


def system(**changes):
    return replace(SOUND, **changes)


def tried(**changes):
    return replace(SOUND, tried=msgspec.structs.replace(TRIED, **changes))


def versions(kind, driver, library, runtime):
    return system(versions=(Versions(kind=kind, driver=driver, library=library, runtime=runtime),))


GROUP = "/sys/fs/cgroup/cpu/edge"
EMMC = {"device": "mmcblk0", "reserve": 1}


@pytest.mark.parametrize(
    ("check", "level", "changed", "says", "mend"),
    [
        ("versions-hailo", "problem", versions("hailo", "4.20.0", "4.22.0", "4.20.0"), "same version", "hailo-all"),
        ("versions-hailo", "problem", versions("hailo", "4.20.0", None, "4.19.0"), "Python package 4.19.0", "hailo"),
        ("versions-hailo", "ok", versions("hailo", "4.20.0", "4.20.0", "4.20.0"), "driver 4.20.0", None),
        ("versions-hailo", "note", versions("hailo", "4.20.0", None, None), "library not found", None),
        ("versions-nvidia", "problem", versions("nvidia", "550.54.14", "550.90.07", None), "since the start", "reboot"),
        ("versions-nvidia", "problem", versions("nvidia", "470.1.2", "470.1.2", "1.30.0"), "525 or newer", "nvidia"),
        ("versions-nvidia", "ok", versions("nvidia", "550.54.14", "550.54.14", "1.30.0"), "driver 550", None),
        ("versions-jetson", "warning", versions("jetson", "L4T 35.4.1", "10.3.0", None), "TensorRT 8", "jetpack"),
        ("versions-jetson", "ok", versions("jetson", "L4T 36.4.0", "10.3.0", "10.3.0"), "L4T 36.4.0", None),
        ("versions-rockchip", "warning", versions("rockchip", "0.8.2", None, "2.3.0"), "0.9.2 or newer", "upgrade"),
        ("versions-rockchip", "ok", versions("rockchip", "0.9.8", None, "2.3.0"), "driver 0.9.8", None),
        ("disk-health", "problem", system(file_system_errors=2), "recorded 2 errors", "e2fsck -fn /dev/mmcblk0p2"),
        ("disk-health", "problem", system(root_read_only=True), "read-only", "dmesg"),
        ("inodes", "warning", tried(inodes_free=5), "5 more files only", "du --inodes"),
        ("wear-mmcblk0", "problem", system(wear=(Wear(life_tenths=11, **EMMC),)), "over 100 %", "dd if=/dev/mmcblk0"),
        ("wear-mmcblk0", "warning", system(wear=(Wear(life_tenths=8, **EMMC),)), "plan its replacement", "dd"),
        ("wear-mmcblk0", "ok", system(wear=(Wear(life_tenths=2, **EMMC),)), "over 10 %", None),
        ("disk-sync", "note", tried(fsync_ms=180.0), "takes 180 ms", "iostat"),
        ("out-of-memory", "warning", system(oom_kills=1), "a program once since", "dmesg"),
        ("swappiness", "note", system(swap_devices=("/dev/mmcblk0p3",)), "wears the card", "vm.swappiness=10"),
        ("swappiness", "ok", system(swap_devices=("/dev/zram0",)), "zram", None),
        ("clock-sync", "warning", tried(clock_synchronised=False), "nothing keeps", "set-ntp true"),
        ("clock-sync", "warning", system(rtc_behind_s=7200.0), "7200 s behind", "hwclock --systohc"),
        ("clock-jump", "note", tried(clock_jump_s=1.8e9), "jumped 500000 h", "fake-hwclock"),
        ("cgroups", "note", system(cgroups="hybrid"), "version 1 and 2 at once", "unified_cgroup_hierarchy"),
        ("cgroups", "note", system(cgroups="v1"), "are version 1,", "unified_cgroup_hierarchy"),
        ("kernel", "ok", system(is_real_time_kernel=True), "a real-time kernel (PREEMPT_RT)", None),
        ("tracing", "note", system(has_kprobes=False), "without kprobes", "zgrep"),
        ("tracing", "note", system(has_btf=False), "without BTF", "zgrep"),
        ("tracing", "note", system(has_tracefs=False), "tracefs is not mounted", "mount -t tracefs"),
        ("perf-events", "note", system(perf_event_paranoid=3), "perf_event_paranoid 3", "paranoid=1"),
        ("rt-group", "warning", system(has_rt_group_sched=True, group=GROUP, group_rt_runtime_us=0),
            "refused even to root", f"tee {GROUP}/cpu.rt_runtime_us"),
        ("rt-group", "note", system(has_rt_group_sched=True), "until it has a budget", "tee"),
        ("rt-brake", "note", system(rt_runtime_us=-1), "hangs the machine", "sched_rt_runtime_us=950000"),
        ("real-time", "note", tried(real_time_refusal="Operation not permitted"), "Operation not", "pi - rtprio 50"),
        ("memory-lock", "note", tried(memory_lock_limit=8 << 20), "only 8 MiB", "pi - memlock unlimited"),
        ("limits-hold", "warning", tried(address_limit_holds=False), "accepted here and not kept", "detect-virt"),
    ],
)  # fmt: skip
def test_each_fault_of_the_system_is_found_with_its_weight_and_what_mends_it(check, level, changed, says, mend):
    found = finding(check, system=changed)
    assert found.level == level
    assert says in found.message
    assert (found.mend is None) if mend is None else (mend in (found.mend or ""))


def test_a_limit_of_cpus_that_is_not_kept_is_told():
    found = finding("cpu-limit", cpu_limit=1.0, system=tried(cpus_taken=3.9))
    assert (found.level, "1 CPUs is set and not kept: busy processes got 3.9" in found.message) == ("warning", True)
    assert finding("cpu-limit", cpu_limit=1.0, system=tried(cpus_taken=1.1)).level == "note"


def test_inputs_that_are_closed_are_told_with_their_groups():
    closed = {"/dev/video0": "video", "/dev/i2c-1": "i2c", "/dev/video1": "video", "/dev/gpiochip0": "gpio"}
    found = finding("device-access", closed_nodes=closed)
    assert found.level == "note"
    assert "and 1 more" in found.message
    assert found.mend.startswith("sudo usermod -aG gpio,i2c,video pi ")


def test_of_a_device_over_ssh_no_runtime_is_judged():
    checks = {one.check for one in examine(replace(HEALTHY, host="pi@kitchen", runtimes=()))}
    assert "runtimes" in checks
    assert not checks & {"telemetry", "key-folder"}


def test_nobody_is_told_to_join_the_group_root():
    found = finding("accelerator-hailo8", accelerators=(HAILO,), closed_nodes={"/dev/hailo0": "root"})
    assert "usermod" not in found.mend
    assert """'KERNEL=="hailo*", GROUP="render", MODE="0660"' | sudo tee -a /etc/udev/rules.d/""" in found.mend


def test_the_worst_comes_first():
    findings = examine(replace(HEALTHY, telemetry_switch=None, text_encoding="latin-1"))
    assert [one.level for one in findings][:3] == ["problem", "warning", "ok"]


@given(
    available=st.integers(0, 64 * GB), total=st.integers(0, 64 * GB), word=st.none() | st.integers(0, 2**32),
    load=st.none() | st.floats(0, 1000), allowed=st.none() | st.floats(0.01, 512), pressure=st.none() | st.floats(0, 1),
)  # fmt: skip
def test_whatever_is_found_every_fault_has_a_next_move(available, total, word, load, allowed, pressure):
    facts = replace(
        HEALTHY, memory_available_bytes=available, memory_bytes=total, pi_throttled=word, memory_pressure=pressure,
        cpu_limit=allowed, conditions=conditions(load_per_core=load),
    )  # fmt: skip
    findings = examine(facts)
    assert all(one.mend for one in findings if one.level in ("warning", "problem"))
    assert len({one.check for one in findings}) == len(findings) == 30
