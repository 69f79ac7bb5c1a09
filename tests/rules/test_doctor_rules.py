from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.measure.conditions import Conditions
from edgeward.measure.doctor import Facts, examine
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
HEALTHY = Facts(
    now=datetime(2026, 11, 20, tzinfo=UTC), python="3.11.7", pointer_bits=64, kernel_arch="aarch64", runtimes=(WORKS,),
    telemetry_switch="1", memory_bytes=8 * GB, memory_available_bytes=6 * GB, memory_pressure=0.0,
    swap_bytes=GB, swap_free_bytes=GB, storage_free_bytes=20 * GB, conditions=CALM, pi_throttled=0, accelerators=(),
    closed_nodes={}, usable_cpu_count=4, cpu_limit=None, memory_limit_bytes=None, text_encoding="UTF-8",
    key_folder="/home/pi/.config/edgeward", key_folder_fault=None,
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
            "may not open /dev/hailo0", "sudo usermod -aG render $USER"),
    ],
)  # fmt: skip
def test_each_fault_is_found_with_its_weight_and_what_mends_it(check, level, changes, says, mend):
    found = finding(check, **changes)
    assert found.level == level
    assert says in found.message
    assert (found.mend is None) if mend is None else (mend in (found.mend or ""))


def test_nobody_is_told_to_join_the_group_root():
    found = finding("accelerator-hailo8", accelerators=(HAILO,), closed_nodes={"/dev/hailo0": "root"})
    assert "usermod" not in found.mend


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
    assert len({one.check for one in findings}) == len(findings) == 14
