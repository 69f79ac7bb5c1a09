"""One suite over every probe: on this machine, on recorded trees and on broken ones it answers, and never raises."""

import json

import pytest

from edgeward.measure import probes, sysfs

FILES = {
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal", "sys/class/thermal/thermal_zone0/temp": "48312",
    "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0", "sys/class/thermal/cooling_device0/cur_state": "2",
    "sys/class/thermal/cooling_device0/max_state": "5",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "7",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "ondemand",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000",
    "sys/devices/system/cpu/cpufreq/policy0/stats/time_in_state": "600000 1234\n1500000 99",
    "sys/devices/system/cpu/cpu0/cpuidle/state1/name": "C1",
    "sys/devices/system/cpu/cpu0/cpuidle/state1/time": "5000000",
    "sys/devices/system/cpu/cpu0/cpuidle/state1/usage": "12",
    "sys/class/powercap/intel-rapl:0/name": "package-0", "sys/class/powercap/intel-rapl:0/energy_uj": "123456789",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850",
    "sys/class/powercap/intel-rapl:0:0/name": "core", "sys/class/powercap/intel-rapl:0:0/energy_uj": "1000000",
    "sys/class/powercap/intel-rapl-mmio:0/name": "package-0", "sys/class/powercap/intel-rapl-mmio:0/energy_uj": "5",
    "sys/class/powercap/intel-rapl:1/name": "psys", "sys/class/powercap/intel-rapl:1/energy_uj": "2000000",
    "sys/class/hwmon/hwmon0/name": "ina219", "sys/class/hwmon/hwmon0/power1_input": "2500000",
    "sys/class/hwmon/hwmon0/curr1_input": "500", "sys/class/hwmon/hwmon0/in1_input": "5000",
    "sys/bus/i2c/devices/1-0040/name": "ina3221", "sys/bus/i2c/devices/1-0040/hwmon/hwmon3/name": "ina3221",
    "sys/bus/i2c/devices/1-0040/hwmon/hwmon3/in1_label": "VDD_IN",
    "sys/bus/i2c/devices/1-0040/hwmon/hwmon3/in1_input": "5000",
    "sys/bus/i2c/devices/1-0040/hwmon/hwmon3/curr1_input": "1200",
    "sys/bus/i2c/devices/1-0040/hwmon/hwmon3/curr1_max_alarm": "1",
    "sys/bus/i2c/devices/1-0040/hwmon/hwmon3/in2_label": "NC",
    "sys/bus/i2c/devices/1-0040/hwmon/hwmon3/curr2_input": "0",
    "sys/bus/i2c/devices/1-0041/iio:device0/rail_name_0": "POM_5V_IN",
    "sys/bus/i2c/devices/1-0041/iio:device0/in_power0_input": "3300",
    "sys/bus/i2c/devices/1-0041/iio:device0/in_voltage0_input": "5000",
    "sys/bus/i2c/devices/1-0041/iio:device0/in_current0_input": "660",
    "sys/class/hwmon/hwmon1/name": "rpi_volt", "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1",
    "sys/class/hwmon/hwmon2/name": "amdgpu", "sys/class/hwmon/hwmon2/power1_average": "15000000",
    "sys/class/hwmon/hwmon2/temp1_input": "51000", "sys/class/hwmon/hwmon2/temp1_label": "edge",
    "sys/devices/platform/soc@0/soc@0:firmware/get_throttled": "50005",
    "proc/pressure/memory": "some avg10=1.50 avg60=0.00 avg300=0.00 total=2500000",
    "proc/self/cgroup": "0::/kitchen",
    "sys/fs/cgroup/kitchen/cpu.max": "150000 100000", "sys/fs/cgroup/kitchen/memory.max": "536870912",
    "sys/fs/cgroup/kitchen/cpu.stat": "usage_usec 5\nnr_throttled 4\nthrottled_usec 90000",
    "sys/class/power_supply/BAT0/power_now": "7500000", "sys/class/power_supply/BAT0/status": "Discharging",
    "sys/bus/pci/devices/0001:01:00.0/vendor": "0x1e60", "sys/bus/pci/devices/0001:01:00.0/device": "0x2864",
    "dev/hailo0": "", "sys/module/hailo_pci/version": "4.20.0", "usr/lib/libhailort.so": "",
    "usr/lib/libhailort.so.4.22.0": "",
    "readings.json": json.dumps({"readings": [{"name": "oven", "quantity": "temperature", "unit": "°C", "value": 200.0,
                                               "path": "by hand"}]}),
}  # fmt: skip
WANTED = {
    ("thermal", "cpu-thermal", "temperature"): 48.312, ("thermal", "cpufreq-cpu0 0", "slowing state"): 2,
    ("thermal", "cpu0 core", "throttle count"): 7, ("cpufreq", "policy0", "governor"): "ondemand",
    ("cpufreq", "policy0", "scaling cur frequency"): 1500, ("cpufreq", "policy0 600 MHz", "time at frequency"): 12.34,
    ("cpufreq", "cpu0 C1", "time idle"): 5, ("rapl", "package-0", "energy"): 123456.789,
    ("rapl", "package-0", "counter range"): 262143328.85, ("rapl", "package-0 core", "energy"): 1000,
    ("rapl", "psys", "energy"): 2000, ("ina", "ina219", "power"): 2500, ("ina", "VDD_IN", "power"): 6000,
    ("ina", "VDD_IN", "over-current max"): 1, ("ina", "POM_5V_IN", "power"): 3300,
    ("raspberry-pi", "under-voltage", "now"): 1, ("raspberry-pi", "frequency capped", "now"): 0,
    ("raspberry-pi", "throttled", "now"): 1, ("raspberry-pi", "throttled", "since boot"): 1,
    ("raspberry-pi", "rpi_volt", "under-voltage alarm"): 1, ("hwmon", "amdgpu power1", "power, average"): 15000,
    ("hwmon", "amdgpu edge", "temperature"): 51, ("pressure", "memory some", "waiting"): 0.015,
    ("pressure", "memory some", "waited since boot"): 2.5, ("cgroup", "CPUs", "limit"): 1.5,
    ("cgroup", "memory", "limit"): 536870912, ("cgroup", "kitchen", "times throttled"): 4,
    ("cgroup", "kitchen", "time throttled"): 0.09, ("power-supply", "BAT0", "power"): 7500,
    ("power-supply", "BAT0", "status"): "Discharging",
    ("accelerators", "Hailo-8 or Hailo-8L at PCI 0001:01:00.0", "driver"): "hailo_pci 4.20.0",
    ("accelerators", "Hailo-8 or Hailo-8L at PCI 0001:01:00.0", "library"): "libhailort.so.4.22.0",
    ("recorded", "oven", "temperature"): 200,
}  # fmt: skip


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "root"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n" if text else "")
    (root / "sys/bus/pci/devices/0001:01:00.0/driver").symlink_to("../../drivers/hailo_pci")
    return root


@pytest.fixture(params=probes.names())
def name(request):
    return request.param


def test_every_probe_reads_the_recorded_tree_in_the_units_it_names(tree, name):
    found = {(one.probe, one.name, one.quantity): one.value for one in probes.readings(tree, [name])}
    wanted = {key: value for key, value in WANTED.items() if key[0] == name}
    assert wanted, f"{name} has nothing recorded"
    assert {key: found.get(key) for key in wanted} == pytest.approx(wanted)


def test_a_machine_without_the_sensor_gives_nothing(tmp_path, name):
    assert probes.readings(tmp_path, [name]) == ()


def test_on_this_machine_each_reading_has_a_value_or_a_reason(name):
    for one in probes.readings(sysfs.ROOT, [name]):
        assert (one.value is None) == (one.fault is not None)
        assert one.fault is None or one.fault.startswith("not readable: ")


@pytest.mark.parametrize(
    "broken", ["garbage", "", "-99999999999999", "nan", "9" * 400, "\x00\xff\n\n:=", "folder", "forbidden"]
)
def test_a_broken_sensor_is_named_with_its_reason_and_ends_no_run(tree, name, broken):
    for path in list(tree.rglob("*")):
        if path.is_file() and path.parent.name != "dev":
            path.unlink()
            if broken == "folder":
                path.mkdir()
            elif broken == "forbidden":
                path.symlink_to("/proc/self/mem")  # the read fails with EIO, for root too
            else:
                path.write_bytes(broken.encode("latin-1"))
    for one in probes.readings(tree, [name]):
        assert (one.value is None) == (one.fault is not None)
        assert one.fault is None or one.fault.startswith("not readable: ")


def test_one_broken_sensor_leaves_the_others_readable(tree):
    (tree / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    (tree / "sys/class/powercap/intel-rapl:0/energy_uj").symlink_to("/proc/self/mem")
    found = {(one.name, one.quantity): one for one in probes.readings(tree, ["rapl"])}
    assert found["package-0", "energy"].fault == "not readable: input/output error"
    assert found["psys", "energy"].value == 2000
    assert len(found) == 4, "the package seen through memory-mapped registers is not told twice"
