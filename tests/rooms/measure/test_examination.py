import os
import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from edgeward.kit.clock import ManualClock
from edgeward.measure import doctor, examination

CLOCK = ManualClock(datetime(2026, 11, 20, tzinfo=UTC))


def levels(root):
    return {one.check: one.level for one in doctor.examine(examination.gather(CLOCK, root))}


def test_a_hot_raspberry_pi_on_a_weak_supply_is_diagnosed_from_its_files(raspberry_pi):
    found = levels(raspberry_pi)
    assert found["throttling"] == "problem"
    assert found["governor"] == "note"
    assert found["accelerator-hailo8"] == "note"
    assert found["memory"] == "ok"
    assert found["runtime-onnxruntime"] == "ok"


def test_a_machine_that_tells_nothing_is_examined_without_falling(nothing):
    assert levels(nothing)["governor"] == "ok"


def test_a_key_can_be_kept_in_a_folder_that_does_not_exist_yet(tmp_path):
    assert examination.folder_fault(tmp_path / "a/b/c") is None
    assert not (tmp_path / "a").exists()


def test_a_file_in_the_way_of_the_key_folder_is_named(tmp_path):
    (tmp_path / "a").write_text("x")
    assert examination.folder_fault(tmp_path / "a/b") == f"{tmp_path / 'a'} is a file"


@pytest.fixture
def read_only(tmp_path):
    """A file system that is mounted read-only."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a file system")
    folder = tmp_path / "mounted"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", folder], capture_output=True).returncode != 0:
        pytest.skip("this container may not mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_read_only_home_is_told(read_only):
    assert examination.folder_fault(read_only / "edgeward") == f"{read_only} is read-only"
