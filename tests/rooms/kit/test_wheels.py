"""Wheels for another machine, from a folder: no test here needs a network."""

import sys
import zipfile
from pathlib import Path

import pytest

from edgeward.kit import wheels
from edgeward.kit.errors import Unavailable, Unsupported
from edgeward.kit.wheels import Abi

PI = Abi("aarch64", (3, 11), 36)


def make_wheel(folder: Path, name: str, needs: str = "", tag: str = "py3-none-any") -> None:
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-{tag}.whl", "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        wanted = f"Requires-Dist: {needs}\n" if needs else ""
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{wanted}")
        archive.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{about}/RECORD", "")


@pytest.fixture(autouse=True)
def no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def test_what_a_package_needs_comes_with_it_for_that_processor_and_is_asked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(tmp_path, "upper", needs="lower")
    make_wheel(tmp_path, "lower", tag="cp311-cp311-manylinux_2_31_aarch64")
    make_wheel(tmp_path, "lower", tag="cp311-cp311-manylinux_2_17_x86_64")
    found = wheels.fetched(PI, ["upper"], only_in=tmp_path)
    assert [path.name for path in found] == [
        "lower-1.0-cp311-cp311-manylinux_2_31_aarch64.whl",
        "upper-1.0-py3-none-any.whl",
    ]
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert wheels.fetched(PI, ["upper"], only_in=tmp_path) == found
    with pytest.raises(Unavailable, match=r"no wheel of upper for Python 3\.11 on aarch64 with glibc 2\.36 can be had"):
        wheels.fetched(PI, ["upper"], only_in=tmp_path, anew=True)
    assert wheels.fetched(PI, ["upper"], only_in=tmp_path) == found, "a failed try took away what was there"


def test_a_machine_too_old_for_every_wheel_is_told(tmp_path: Path) -> None:
    make_wheel(tmp_path, "lower", tag="cp311-cp311-manylinux_2_31_aarch64")
    with pytest.raises(Unsupported, match=r"no wheel of lower for Python 3\.11 on aarch64 with glibc 2\.28"):
        wheels.fetched(PI._replace(glibc=28), ["lower"], only_in=tmp_path)
