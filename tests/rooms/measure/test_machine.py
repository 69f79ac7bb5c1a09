import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kit import codec, files
from edgeward.kit.clock import ManualClock
from edgeward.kit.errors import Unsupported
from edgeward.measure import machine, naming, target_file
from edgeward.records.target import Accelerator, Machine, Target

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def test_a_raspberry_pi_is_known_by_board_cores_and_features(raspberry_pi):
    found = machine.read_machine(raspberry_pi, ManualClock(NOW), with_peaks=False)
    assert found.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert found.cpu == "4× Cortex-A76"
    assert found.arch == "aarch64"
    assert found.cpu_count == 4
    assert found.cpu_features == ("asimd", "asimdhp", "asimddp")
    assert found.memory_bytes == 8245744 * 1024
    assert found.kernel == "6.6.51+rpt-rpi-2712"
    assert found.hostname == "kitchen"
    assert found.governor == "ondemand"
    assert found.temperature_c == 81.25
    assert found.virtualization is None
    assert found.seen_at == NOW
    assert found.peaks is None


def test_big_and_little_cores_are_told_apart_and_only_common_features_count(rock):
    assert machine.cpu(rock) == "4× Cortex-A55 + 4× Cortex-A76"
    assert "sve" not in machine.cpu_features(rock)
    assert "asimddp" in machine.cpu_features(rock)


def test_an_x86_computer_is_known_by_its_firmware_tables(intel_box):
    assert machine.board(intel_box) == "ASUSTeK COMPUTER INC. NUC14RVH"
    assert machine.arch(intel_box) == "x86_64"
    assert machine.cpu(intel_box) == "Intel(R) Core(TM) Ultra 5 125H"
    assert machine.cpu_features(intel_box) == ("f16c", "fma", "avx2", "avx_vnni")
    assert naming.target_name(intel_box) == "asustek-computer-inc.-nuc14rvh"


def test_names_that_a_maker_forgot_to_fill_in_are_not_shown(intel_box):
    folder = intel_box / "sys/class/dmi/id"
    (folder / "product_name").write_text("To Be Filled By O.E.M.\n")
    (folder / "board_vendor").write_text("ASRock\n")
    (folder / "board_name").write_text("N100DC-ITX\n")
    assert machine.board(intel_box) == "ASRock N100DC-ITX"


def test_a_riscv_core_has_vectors_when_its_base_isa_has_a_v(nothing):
    (nothing / "proc").mkdir()
    (nothing / "proc/cpuinfo").write_text("processor\t: 0\nisa\t: rv64imafdcv_zicsr_zve32f\nuarch\t: spacemit,x60\n")
    assert machine.cpu_features(nothing) == ("v",)
    (nothing / "proc/cpuinfo").write_text("processor\t: 0\nisa\t: rv64imafdc_zicsr_zihpm_svpbmt\n")
    assert machine.cpu_features(nothing) == ()


def test_a_machine_that_tells_nothing_is_still_described(nothing):
    found = machine.read_machine(nothing, ManualClock(NOW), with_peaks=False)
    assert (found.board, found.cpu, found.memory_bytes, found.cpu_count) == ("unknown", "unknown", 0, 1)
    assert found.accelerators == ()
    assert naming.target_name(nothing) == "unknown"


@pytest.mark.parametrize(
    "garbage", [b"", b"\0" * 4096, b"\xff\xfe" * 999, b"flags:", b"9" * 100_000, b"isa : rv\nCPU part : \n: :\n"]
)
def test_broken_files_never_break_a_reading(raspberry_pi, garbage):
    for path in list(raspberry_pi.rglob("*")):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(garbage)
    found = machine.read_machine(raspberry_pi, ManualClock(NOW), with_peaks=False)
    assert codec.from_json(codec.to_json(found), Machine, "it") == found


def test_folders_in_the_place_of_files_never_break_a_reading(intel_box):
    for path in list(intel_box.rglob("*")):
        if path.is_file() and not path.is_symlink():
            path.unlink()
            path.mkdir()
    assert machine.read_machine(intel_box, ManualClock(NOW), with_peaks=False).cpu == "unknown"


def test_this_machine_is_read_as_the_system_says():
    found = machine.read_machine(clock=ManualClock(NOW), with_peaks=False)
    assert found.kernel == platform.release()
    assert found.hostname == platform.node()
    assert found.memory_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found.cpu_count == os.sysconf("SC_NPROCESSORS_ONLN")
    works = {runtime.name: runtime.works for runtime in found.runtimes}
    assert works["onnxruntime"]
    assert "echo" not in works


def test_a_target_file_reads_back_as_the_target_it_was_made_of(raspberry_pi, tmp_path):
    found = machine.read_machine(raspberry_pi, ManualClock(NOW), with_peaks=False)
    target = target_file.target_of(found, naming.target_name(raspberry_pi))
    assert target.name == "raspberry-pi-5-model-b-rev-1.0"
    assert target.accelerators == (Accelerator(kind="hailo8"), Accelerator(kind="videocore"))
    assert target.runtimes["onnxruntime"].startswith(">=1.")
    files.write_atomic(tmp_path / "t.toml", target_file.to_toml(target))
    assert codec.from_toml(tmp_path / "t.toml", Target) == target


@given(
    cpu=st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    features=st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), max_size=3),
    runtime=st.text(alphabet=st.characters(exclude_categories=["Cs"])),
)
def test_any_text_survives_the_target_file(tmp_path_factory, cpu, features, runtime):
    target = Target(
        name="x", arch="aarch64", memory_bytes=1, storage_bytes=2, runtimes={runtime: ">=1,<2"}, cpu=cpu,
        cpu_features=tuple(features), power_limit_mw=2500.5,
    )  # fmt: skip
    path: Path = tmp_path_factory.mktemp("targets") / "t.toml"
    path.write_bytes(target_file.to_toml(target))
    assert codec.from_toml(path, Target) == target


def test_a_processor_family_without_profiles_is_named(nothing):
    found = machine.read_machine(nothing, ManualClock(NOW), with_peaks=False)
    with pytest.raises(Unsupported, match="this machine is unknown; a target is one of x86_64, aarch64"):
        target_file.target_of(found, "x")


@given(st.text())
def test_every_text_becomes_a_name_that_records_take(text):
    name = naming.slug_of(text)
    assert codec.from_json(codec.to_json({"kind": name}), Accelerator, "it").kind == name
