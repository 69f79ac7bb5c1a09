"""A run that is killed while it replaces an older output never costs both."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeward.kit.errors import WrongInput
from edgeward.kit.files import new_folder

REPLACE = """
import os, signal, sys
from pathlib import Path
from edgeward.kit.files import new_folder

folder, exchange, fatal = Path(sys.argv[1]), sys.argv[2] == "exchange", sys.argv[3]

def hook(event, arguments):
    if event == "ctypes.dlsym" and arguments[1] == "renameat2" and not exchange:
        raise AttributeError("renameat2")  # a C library without it
    if event == fatal and (fatal != "os.rename" or str(arguments[1]) == str(folder)):
        os.kill(os.getpid(), signal.SIGKILL)

with new_folder(folder, overwrite=True) as work:
    (work / "result").write_text("new")
    sys.addaudithook(hook)
"""


def replace(folder: Path, way: str, fatal: str) -> int:
    return subprocess.run([sys.executable, "-c", REPLACE, str(folder), way, fatal], timeout=60).returncode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with new_folder(tmp_path / "out [1]") as work:
        (work / "result").write_text("old")
    return tmp_path / "out [1]"


@pytest.mark.parametrize("way", ["exchange", "two steps"])
def test_an_overwrite_leaves_the_new_output_and_nothing_else(folder: Path, way: str) -> None:
    assert replace(folder, way, "never") == 0
    assert (folder / "result").read_text() == "new"
    assert list(folder.parent.iterdir()) == [folder]


def test_an_output_that_a_killed_run_had_moved_aside_comes_back(folder: Path) -> None:
    assert replace(folder, "two steps", "os.rename") == -signal.SIGKILL
    assert not folder.exists()
    with pytest.raises(WrongInput, match="exists and is not empty"), new_folder(folder):
        pass
    assert (folder / "result").read_text() == "old"
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("way", ["exchange", "two steps"])
def test_a_kill_before_the_old_output_is_removed_leaves_the_new_one(folder: Path, way: str) -> None:
    assert replace(folder, way, "shutil.rmtree") == -signal.SIGKILL
    assert (folder / "result").read_text() == "new"
    with new_folder(folder, overwrite=True) as work:
        (work / "result").write_text("newer")
    assert (folder / "result").read_text() == "newer"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_link_to_a_folder_is_replaced_and_its_target_kept(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    with new_folder(link, overwrite=True) as work:
        (work / "result").write_text("new")
    assert not link.is_symlink()
    assert (folder / "result").read_text() == "old"
    assert sorted(folder.parent.iterdir()) == sorted([folder, link])
