"""Files that are whole or not there at all."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeward.kit.files import new_file, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["state.json", "odd [name]*.json"])
def test_what_a_killed_write_left_goes_with_the_next_one_and_nothing_else(tmp_path, name):
    for other in (f".{name}.partial-a1b2", f".{name}.partial-c3d4", ".other.partial-a1b2", "partial-a1b2"):
        (tmp_path / other).write_bytes(b"half")
    write_atomic(tmp_path / name, b"whole", mode=0o600)
    assert names(tmp_path) == sorted([".other.partial-a1b2", "partial-a1b2", name])
    assert (tmp_path / name).read_bytes() == b"whole"
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_a_write_under_way_is_left_alone_by_another(tmp_path):
    path = tmp_path / "state.json"
    with new_file(path) as file:
        file.write(b"slow")
        write_atomic(path, b"quick")
        assert path.read_bytes() == b"quick"
    assert path.read_bytes() == b"slow"
    assert names(tmp_path) == ["state.json"]


def test_many_at_once_sweep_nothing_of_each_other_away(tmp_path):
    path = tmp_path / "state.json"
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(write_atomic, path, b"%d" % number * 999) for number in range(400)]:
            done.result()
    assert len(path.read_bytes()) in (999, 1998, 2997)
    assert names(tmp_path) == ["state.json"]


def test_what_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "state.json"
    write_atomic(path, b"old")

    def fail() -> None:
        with new_file(path) as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["state.json"]


def test_a_link_in_the_place_of_a_leftover_is_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / ".state.json.partial-a1b2").symlink_to("precious")
    write_atomic(tmp_path / "state.json", b"whole")
    assert (tmp_path / ".state.json.partial-a1b2").is_symlink()
    assert (tmp_path / "precious").read_bytes() == b"mine"
