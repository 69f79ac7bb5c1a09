import pytest

from edgeward.measure import cgroups
from edgeward.measure.conditions import conditions, throttled, virtualization


def test_the_line_tells_a_person_what_decides_a_number(raspberry_pi):
    assert conditions(raspberry_pi).line() == (
        "ondemand governor, load 0.10 per core, throttled now, 81 °C, no virtual machine"
    )


def test_a_machine_that_tells_nothing_gets_a_line_too(nothing):
    assert conditions(nothing).line() == "no CPU governor visible, no throttling counters, no virtual machine"


def test_a_running_fan_is_not_throttling_but_a_slowed_cpu_is(raspberry_pi):
    (raspberry_pi / "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled").write_text("50000\n")
    assert not conditions(raspberry_pi).throttled_now
    (raspberry_pi / "sys/class/thermal/cooling_device0/type").write_text("thermal-cpufreq-0\n")
    assert conditions(raspberry_pi).throttled_now


def test_counters_that_rise_between_two_readings_mean_throttled(intel_box):
    before = conditions(intel_box)
    assert before.throttle_count == 7
    assert not throttled(before, conditions(intel_box))
    (intel_box / "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count").write_text("5\n")
    assert throttled(before, conditions(intel_box))


def test_the_hottest_believable_zone_counts(raspberry_pi):
    for zone, value in (("1", "0"), ("2", "-274000"), ("3", "hot"), ("4", "85500")):
        (raspberry_pi / f"sys/class/thermal/thermal_zone{zone}").mkdir()
        (raspberry_pi / f"sys/class/thermal/thermal_zone{zone}/temp").write_text(value)
    assert conditions(raspberry_pi).temperature_c == 85.5


def test_clusters_with_different_governors_are_both_named(raspberry_pi):
    (raspberry_pi / "sys/devices/system/cpu/cpufreq/policy4").mkdir()
    (raspberry_pi / "sys/devices/system/cpu/cpufreq/policy4/scaling_governor").write_text("performance\n")
    assert conditions(raspberry_pi).governor == "ondemand+performance"


@pytest.mark.parametrize(
    ("path", "text", "name"),
    [
        ("sys/class/dmi/id/sys_vendor", "QEMU\n", "kvm"),
        ("sys/class/dmi/id/product_name", "VMware Virtual Platform\n", "vmware"),
        ("sys/hypervisor/type", "xen\n", "xen"),
        ("proc/cpuinfo", "flags\t: fpu hypervisor avx2\n", "virtual machine"),
        (".dockerenv", "", "docker"),
        ("run/systemd/container", "lxc\n", "lxc"),
    ],
)
def test_virtual_machines_and_containers_are_named(nothing, path, text, name):
    (nothing / path).parent.mkdir(parents=True, exist_ok=True)
    (nothing / path).write_text(text)
    assert virtualization(nothing) == name


def test_a_container_in_a_virtual_machine_is_both(nothing):
    (nothing / "proc").mkdir()
    (nothing / "proc/cpuinfo").write_text("flags\t: fpu hypervisor\n")
    clock = nothing / "sys/devices/system/clocksource/clocksource0"
    clock.mkdir(parents=True)
    (clock / "available_clocksource").write_text("tsc kvm-clock \n")
    (nothing / ".dockerenv").touch()
    assert virtualization(nothing) == "kvm + docker"


def test_the_smallest_limit_on_the_way_to_the_root_counts(nothing):
    group = nothing / "sys/fs/cgroup/system.slice/edgeward.service"
    group.mkdir(parents=True)
    (nothing / "proc/self").mkdir(parents=True)
    (nothing / "proc/self/cgroup").write_text("0::/system.slice/edgeward.service\n")
    (group / "cpu.max").write_text("max 100000\n")
    (group / "memory.max").write_text("max\n")
    assert (cgroups.cpu_limit(nothing), cgroups.memory_limit_bytes(nothing)) == (None, None)
    (group.parent / "cpu.max").write_text("150000 100000\n")
    (group.parent / "memory.max").write_text("536870912\n")
    (group / "memory.max").write_text("1073741824\n")
    assert (cgroups.cpu_limit(nothing), cgroups.memory_limit_bytes(nothing)) == (1.5, 536870912)


def test_limits_of_version_1_count_too(nothing):
    for name, value in (
        ("cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "50000"),
        ("cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000"),
        ("memory/docker/abc/memory.limit_in_bytes", "268435456"),
        ("memory/memory.limit_in_bytes", "9223372036854771712"),
    ):
        path = nothing / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")
    (nothing / "proc/self").mkdir(parents=True)
    (nothing / "proc/self/cgroup").write_text("4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n0::/\n")
    assert (cgroups.cpu_limit(nothing), cgroups.memory_limit_bytes(nothing)) == (0.5, 268435456)


def test_a_period_of_zero_is_no_limit(nothing):
    (nothing / "proc/self").mkdir(parents=True)
    (nothing / "proc/self/cgroup").write_text("0::/../../etc\n")
    (nothing / "sys/fs/cgroup").mkdir(parents=True)
    (nothing / "sys/fs/cgroup/cpu.max").write_text("100000 0\n")
    assert cgroups.cpu_limit(nothing) is None
