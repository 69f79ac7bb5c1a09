"""What the doctor finds on recorded trees of machines, from the kernel's files to the findings."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from recorded_trees import grow

from edgeward.kit.clock import ManualClock
from edgeward.measure import doctor, examination, system_facts, tried
from edgeward.measure.system_facts import Tried

CLOCK = ManualClock(datetime(2026, 11, 20, tzinfo=UTC))
PI_MOUNTS = "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\ntracefs /sys/kernel/tracing tracefs rw 0 0\n"
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
V1 = "tmpfs /sys/fs/cgroup tmpfs ro 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"


def findings(root: Path) -> dict[str, tuple[str, str]]:
    return {one.check: (one.level, one.message) for one in doctor.examine(examination.gather(CLOCK, root, ()))}


def test_a_raspberry_pi_with_a_mixed_hailo_swap_on_its_card_and_a_worn_emmc(raspberry_pi: Path) -> None:
    grow(raspberry_pi, {
        "proc/mounts": PI_MOUNTS + V2,
        "proc/swaps": "Filename Type Size Used Priority\n/dev/mmcblk0p3 partition 102396 0 -2\n",
        "proc/sys/vm/swappiness": "60\n",
        "proc/vmstat": "nr_free_pages 1\noom_kill 3\n",
        "sys/module/hailo_pci/version": "4.20.0\n",
        "usr/lib/aarch64-linux-gnu/libhailort.so.4.22.0": "",
        "usr/lib/aarch64-linux-gnu/libhailort.so.4": "",
        "sys/block/mmcblk0/device/life_time": "0x0b 0x01\n",
        "sys/block/mmcblk0/device/pre_eol_info": "0x01\n",
        "proc/sys/kernel/perf_event_paranoid": "3\n",
        "sys/kernel/tracing/kprobe_events": "",
    })  # fmt: skip
    found = findings(raspberry_pi)
    assert found["versions-hailo"][0] == "problem"
    assert "driver 4.20.0, library 4.22.0, Python package not found" in found["versions-hailo"][1]
    assert found["swappiness"][0] == "note"
    assert found["out-of-memory"] == (
        "warning",
        "the kernel killed a program 3 times since the start, for want of memory",
    )
    assert found["wear-mmcblk0"][0] == "problem"
    assert found["cgroups"][0] == "ok"
    assert found["tracing"] == ("note", "this kernel is built without BTF; part of why a frame was late stays unseen")
    assert found["perf-events"][0] == "note"


def test_a_jetson_with_a_tensorrt_of_another_release(jetson: Path) -> None:
    grow(jetson, {
        "etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178\n",
        "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "",
        "proc/mounts": "/dev/nvme0n1p1 / ext4 rw 0 0\n" + V2,
    })  # fmt: skip
    found = findings(jetson)
    assert found["versions-jetson"][0] == "warning"
    assert "driver L4T 35.4.1, library 10.3.0" in found["versions-jetson"][1]
    assert "swappiness" in found
    assert found["disk-health"][0] == "ok"


def test_a_gateway_in_a_control_group_without_real_time_on_a_read_only_disk(intel_box: Path) -> None:
    (intel_box / "proc").mkdir(exist_ok=True)
    (intel_box / "proc/config.gz").write_bytes(gzip.compress(b"CONFIG_RT_GROUP_SCHED=y\n# CONFIG_KPROBES is not set\n"))
    grow(intel_box, {
        "proc/mounts": f"/dev/sda2 / ext4 ro,relatime 0 0\n{V1}cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
        "proc/self/cgroup": "4:cpu,cpuacct:/edge\n0::/\n",
        "sys/fs/cgroup/cpu,cpuacct/edge/cpu.rt_runtime_us": "0\n",
        "proc/sys/kernel/sched_rt_runtime_us": "-1\n",
        "sys/kernel/realtime": "1\n",
        "sys/kernel/btf/vmlinux": "",
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\nGCC 12\n",
        "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.90.07": "",
        "sys/fs/ext4/sda2/errors_count": "0\n",
    })  # fmt: skip
    found = findings(intel_box)
    assert found["disk-health"][0] == "problem"
    assert found["rt-group"][0] == "warning"
    assert found["rt-brake"][0] == "note"
    assert found["cgroups"][1].startswith("control groups are version 1 and 2 at once")
    assert found["kernel"][1].startswith("a real-time kernel")
    assert found["versions-nvidia"][0] == "problem"
    assert "kprobes" in found["tracing"][1]


def test_a_tree_that_tells_nothing_has_no_problem_of_the_system(nothing: Path) -> None:
    assert {level for level, _ in findings(nothing).values()} <= {"ok", "note", "warning", "problem"}
    assert findings(nothing)["disk-health"][0] == "ok"
    assert findings(nothing)["rt-group"][0] == "ok"


@pytest.mark.parametrize("junk", [b"", b"\xff\xfe\0", b"a b c", b"9" * 5000])
def test_files_full_of_junk_are_read_as_nothing(tmp_path: Path, junk: bytes) -> None:
    for pattern in (*system_facts.PATTERNS, *system_facts.BARE):
        path = tmp_path / pattern.replace("[0-9]", "0").replace("**/", "").replace("*", "x")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            path.write_bytes(junk)
    system_facts.read_system(tmp_path, Tried())


def test_what_is_tried_here_is_answered_in_the_form_that_is_wanted() -> None:
    found = msgspec.convert(tried.look(["dev/null"], ["sys/fs/cgroup/cpu.max"]), Tried)
    assert found.address_limit_holds is True
    assert found.storage_free_bytes
    assert found.closed_nodes == {}


def test_busy_children_get_no_more_than_there_is(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    taken = tried.cpus_taken([str(tmp_path / "cpu.max").lstrip("/")])
    assert taken is not None
    assert 0 < taken <= 8.5
    assert tried.cpus_taken(["nowhere/cpu.max"]) is None
