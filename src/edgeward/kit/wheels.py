"""Wheels for another machine's Python and processor, fetched by this machine's pip once and kept."""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edgeward.kit.errors import EdgewardError, Unavailable, Unsupported

_OLDEST_GLIBC = 17
_KEPT = Path(".cache") / "edgeward" / "wheels"


class Abi(NamedTuple):
    """What wheels are chosen by: `arch` as `uname -m` says it, `glibc` the second number of its version."""

    arch: str
    python: tuple[int, int]
    glibc: int

    @property
    def words(self) -> str:
        return f"Python {self.python[0]}.{self.python[1]} on {self.arch} with glibc 2.{self.glibc}"

    @property
    def slug(self) -> str:
        return f"{self.arch}-glibc2.{self.glibc}-python{self.python[0]}.{self.python[1]}"


def fetched(
    abi: Abi, packages: Sequence[str], *, no_dependencies: bool = False, only_in: Path | None = None, anew: bool = False
) -> list[Path]:
    """The wheels of these packages and of what they need, which fit together.

    They are asked for once, and kept below ~/.cache/edgeward; `anew` asks again. With `only_in` they are taken from
    that folder, and no network is used. Raises Unsupported where there are none, Unavailable where they cannot be had.
    """
    key = f"{abi.slug}-{_short(packages)}{'-alone' if no_dependencies else ''}"
    if only_in is not None:
        key += f"-{_short(sorted(path.name for path in only_in.glob('*.whl')))}"
    folder = Path.home() / _KEPT / key
    if anew or not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        options = ["--no-deps"] if no_dependencies else []
        options += ["--no-index", "--find-links", str(only_in)] if only_in else []
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            _download(Path(beside) / "new", packages, abi, options)
            _take_place(Path(beside), folder)
    return sorted(folder.glob("*.whl"))


def _short(words: Sequence[str]) -> str:
    text = "-".join(words)
    plain = all(letter.isalnum() or letter in "-._" for letter in text)
    return text if plain and len(text) < 100 else hashlib.sha256(text.encode()).hexdigest()[:16]


def _take_place(beside: Path, folder: Path) -> None:
    if folder.is_dir():
        folder.rename(beside / "old")
    try:
        (beside / "new").rename(folder)
    except OSError:
        if not folder.is_dir():  # unless another run was as quick
            raise


def _download(folder: Path, packages: Sequence[str], abi: Abi, options: Sequence[str]) -> None:
    tags = [f"manylinux_2_{tag}_{abi.arch}" for tag in range(abi.glibc, _OLDEST_GLIBC - 1, -1)]
    platforms = [word for tag in [*tags, f"manylinux2014_{abi.arch}"] for word in ("--platform", tag)]
    version = ".".join(map(str, abi.python))
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--python-version", version]
    command += [*platforms, *options, "-d", str(folder), *packages]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise _no_wheels(packages[-1], abi, done.stderr)


def _no_wheels(package: str, abi: Abi, complaint: str) -> EdgewardError:
    """What pip's end means: there are none, or they cannot be had now."""
    if "No module named pip" in complaint:
        return Unavailable("pip fetches what the device needs, and is not here", hint=f"{sys.executable} -m ensurepip")
    missing = f"no wheel of {package} for {abi.words}"
    if "No matching distribution" in complaint and "Retrying" not in complaint:
        return Unsupported(missing)
    reason = next((line for line in reversed(complaint.splitlines()) if line.startswith("ERROR")), "pip failed")
    return Unavailable(f"{missing} can be had: {reason.removeprefix('ERROR: ')}", hint=f"pip download {package}")
