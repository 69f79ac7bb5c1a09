"""The meter of a machine, on a powercap tree that another process advances, and one inference's energy by it."""

import subprocess
import sys

import numpy as np
import pytest

from edgeward.infer import runtimes
from edgeward.kit.errors import Unsupported
from edgeward.measure.bench import save_feeds
from edgeward.measure.jobs import Contender
from edgeward.measure.metering import measure_energy, meter_of

ZONE = "sys/class/powercap/intel-rapl:0"
ADVANCE = """
import os, sys, time
folder, watts, size = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
start = time.perf_counter()
while True:
    value = int(size - 20e6 + (time.perf_counter() - start) * watts * 1e6) % size  # starts again after 1.7 s
    with open(folder + "/new", "w") as file:
        file.write(f"{value}\\n")
    os.replace(folder + "/new", folder + "/energy_uj")
    time.sleep(0.002)
"""
SIZE = 262_143_328_850


def zone(root, name="package-0", size=SIZE, place=ZONE):
    folder = root / place
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text("0\n")
    (folder / "max_energy_range_uj").write_text(f"{size}\n")
    return folder


@pytest.fixture
def advanced(tmp_path):
    """A package that draws 12 W, whatever runs."""
    folder = zone(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", ADVANCE, str(folder), "12", str(SIZE)])
    yield tmp_path
    process.kill()
    process.wait()


@pytest.fixture
def contender(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(runtimes.load("onnxruntime").smoke_model())
    feeds = save_feeds(tmp_path / "feeds.npz", [{"x": np.float32(1)}])
    return Contender(str(model), "onnxruntime", 1, str(feeds))


def test_a_model_beside_a_meter_of_constant_power_costs_that_power_times_its_time(advanced, contender):
    found = measure_energy(contender, seconds=1.0, idle_s=0.8, root=advanced)
    assert found.source == "RAPL package-0"
    assert found.power_mw == pytest.approx(12_000, rel=0.1)
    assert found.gross_mj * found.inferences == pytest.approx(found.power_mw * found.seconds)
    assert found.inferences > 10


def test_without_any_meter_the_refusal_says_what_would_help(tmp_path):
    with pytest.raises(Unsupported, match="no energy meter") as caught:
        meter_of(tmp_path)
    assert "INA219" in caught.value.hint


def test_a_counter_that_may_not_be_read_is_told_apart_from_none(tmp_path):
    (zone(tmp_path) / "energy_uj").unlink()
    (tmp_path / ZONE / "energy_uj").symlink_to("/proc/self/mem")
    with pytest.raises(Unsupported, match="not readable by this user") as caught:
        meter_of(tmp_path)
    assert "chmod" in caught.value.hint


def test_the_widest_meter_is_taken_and_a_packages_parts_are_not_added_twice(tmp_path):
    zone(tmp_path)
    zone(tmp_path, "core", place="sys/class/powercap/intel-rapl:0:0")
    zone(tmp_path, "dram", place="sys/class/powercap/intel-rapl:0:1")
    assert meter_of(tmp_path).meter.source == "RAPL package-0 + package-0 dram"
    zone(tmp_path, "psys", place="sys/class/powercap/intel-rapl:1")
    assert meter_of(tmp_path).meter.scope == "whole platform"


def test_each_of_two_counters_goes_round_by_itself(tmp_path):
    first, second = zone(tmp_path), zone(tmp_path, "package-1", 1000, "sys/class/powercap/intel-rapl:1")
    read = meter_of(tmp_path).read
    before = read()
    (first / "energy_uj").write_text("500\n")
    (second / "energy_uj").write_text("900\n")
    assert read() - before == 1400
    (second / "energy_uj").write_text("100\n")
    assert read() - before == 1600


def test_a_sample_that_fails_is_lost_and_the_counter_goes_on(tmp_path):
    folder = zone(tmp_path)
    read = meter_of(tmp_path).read
    (folder / "energy_uj").write_text("oops\n")
    assert read() is None
    (folder / "energy_uj").write_text("700\n")
    assert read() == 700


def test_a_jetsons_input_rail_stands_for_the_board(tmp_path):
    folder = tmp_path / "sys/bus/i2c/devices/1-0040/hwmon/hwmon1"
    folder.mkdir(parents=True)
    for name, text in {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "1200",
                       "in2_label": "VDD_CPU", "in2_input": "900", "curr2_input": "700"}.items():  # fmt: skip
        (folder / name).write_text(text)
    wired = meter_of(tmp_path)
    assert (wired.meter.source, wired.meter.scope, wired.read()) == ("INA VDD_IN", "board input", 6000)
