"""What an image stands on is found in its layers, and what cannot carry ours is told."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "faults"))
from registries import needs_registry, registry

from edgeward.bundle.bases import open_base
from edgeward.bundle.images import Images
from edgeward.bundle.registry import Reference, push
from edgeward.kit import debian
from edgeward.kit.errors import EdgewardError, Refused, Unavailable, Unsupported, WrongInput
from edgeward.kit.tars import Entry
from edgeward.kit.wheels import Abi

LIBC = Entry(
    "usr/lib/aarch64-linux-gnu/libc.so.6", b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n"
)
PYTHON = Entry("usr/local/bin/python3.11", b"\x7fELF", 0o755)
USERS = Entry("etc/passwd", b"root:x:0:0::/root:/bin/sh\n")


def layout(folder: Path, *layers: Sequence[Entry], arch: str = "arm64") -> str:
    """A base for one processor, on disk."""
    images = Images()
    laid = [images.lay(one) for one in layers]
    config = {"Env": ["LANG=C.UTF-8", "PYTHON_VERSION=3.11.9"]}
    image = images.image(
        laid,
        platform={"architecture": arch, "os": "linux"},
        config=config,
        created="2026-11-20T12:00:00Z",
        annotations={},
    )
    for one in images.layout([image], "slim", {}):
        (folder / one.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / one.path).write_bytes(one.data)
    return f"oci:{folder}"


def test_python_glibc_and_users_are_found_in_whichever_layer_has_them(tmp_path: Path) -> None:
    older = Entry("usr/bin/python3.9", b"\x7fELF", 0o755)
    reference = layout(tmp_path, [LIBC, older, USERS], [PYTHON])
    for name in (reference, f"{reference}:slim"):
        base = open_base(name, "arm64")
        assert (base.python, base.abi) == ("/usr/local/bin/python3.11", Abi("aarch64", (3, 11), 36))
        assert (base.environment, base.has_users, len(base.layers)) == (
            ("LANG=C.UTF-8", "PYTHON_VERSION=3.11.9"),
            True,
            2,
        )
        assert base.digest.startswith("sha256:")


@pytest.mark.parametrize(
    ("entries", "wanted", "sentence"),
    [
        ([LIBC], Unsupported, "has no Python 3"),
        ([PYTHON, Entry("lib/ld-musl-aarch64.so.1", b"musl")], Unsupported, "has no glibc"),
    ],
)
def test_a_base_that_cannot_carry_ours_is_told(
    tmp_path: Path, entries: list[Entry], wanted: type[EdgewardError], sentence: str
) -> None:
    with pytest.raises(wanted, match=sentence):
        open_base(layout(tmp_path, entries), "arm64")


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("python:3.11-slim", "is neither debian nor oci:FOLDER, nor an image HOST/NAME:TAG"),
        ("oci:nowhere", "is no OCI image layout"),
        ("debian:potato", "Debian 'potato' is not known; there are bookworm, trixie"),
    ],
)
def test_a_reference_that_leads_nowhere_is_told(reference: str, sentence: str) -> None:
    with pytest.raises(WrongInput, match=sentence):
        open_base(reference, "arm64")


def test_a_base_for_another_processor_is_told(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="has no image for linux/amd64"):
        open_base(layout(tmp_path, [LIBC, PYTHON]), "amd64")


def test_an_altered_layer_of_a_base_is_refused(tmp_path: Path) -> None:
    reference = layout(tmp_path, [LIBC, PYTHON])
    layer = open_base(reference, "arm64").layers[0].path
    data = bytearray(layer.read_bytes())
    data[len(data) // 2] ^= 1
    layer.write_bytes(data)
    with pytest.raises(Refused, match="altered"):
        open_base(reference, "arm64")


@needs_registry
def test_a_base_of_a_registry_is_brought_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    layout(tmp_path / "base", [LIBC, PYTHON])
    with registry(tmp_path / "registry") as host:
        push(tmp_path / "base", Reference(host, "python", "slim"))
        base = open_base(f"{host}/python:slim", "arm64")
        with pytest.raises(WrongInput, match="has no image for linux/amd64"):
            open_base(f"{host}/python:slim", "amd64")
    assert (base.name, base.python) == (f"{host}/python:slim", "/usr/local/bin/python3.11")
    assert open_base(f"{host}/python:slim", "arm64") == base, "it is here and was asked for again"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="chroot wants root")
@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_the_python_of_a_debian_made_here_starts_and_scanners_find_its_packages(suite: str, tmp_path: Path) -> None:
    try:
        base = open_base(f"debian:{suite}", "amd64" if platform.machine() == "x86_64" else "arm64")
    except (Unavailable, Unsupported) as error:
        pytest.skip(error.message)
    assert base.abi == debian.abi(suite, base.abi.arch), "the table of Debians is wrong"
    subprocess.run(["tar", "-C", tmp_path, "-xzf", base.layers[0].path], check=True, timeout=60)
    code = "import asyncio, ctypes, lzma, sqlite3, ssl, sys; print(sys.version_info[1])"
    done = subprocess.run(["chroot", tmp_path, base.python, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(base.abi.python[1])], done.stderr
    listed = (tmp_path / "var/lib/dpkg/status.d/libc6").read_text()
    assert f"Version: 2.{base.abi.glibc}-" in listed
    assert not list(tmp_path.glob("**/bin/*sh")), "there is a shell"
