"""What a device is sent so that it can measure: our light rooms, and wheels for its Python and processor."""

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

import edgeward
from edgeward.kit.errors import EdgewardError, Unavailable, Unsupported

_ROOMS = ("records", "kit", "infer", "measure")
_BASE = ("numpy", "msgspec", "onnxruntime")
"""Without these nothing is measured: onnxruntime runs the model as given."""
_MORE = {"litert": "ai-edge-litert", "openvino": "openvino"}
_MODULES = {"litert": "ai_edge_litert", "openvino": "openvino"}
_OLDEST_GLIBC = 17
_OLDEST_PYTHON = (3, 11)


class Device(Struct, frozen=True):
    """What the keeper says of its machine; `found` are the packages of runtimes that its own Python has."""

    python: tuple[int, int]
    arch: str
    libc: tuple[str, str]
    emulated: bool
    found: tuple[str, ...]

    @property
    def words(self) -> str:
        """Python and processor, as wheels are told apart by."""
        return f"Python {self.python[0]}.{self.python[1]} on {self.arch} with glibc {self.libc[1]}"


class Part(NamedTuple):
    """A zip that is unpacked on the device, named by its content; `name` is for people."""

    name: str
    digest: str
    data: bytes


class Runner(NamedTuple):
    """What the device imports, in order, and why some runtimes are not among it."""

    parts: tuple[Part, ...]
    missing: dict[str, str]


def runner_for(device: Device) -> Runner:
    """Raises Unsupported where no wheels run, Unavailable where they cannot be had."""
    if device.python < _OLDEST_PYTHON:
        version = ".".join(map(str, device.python))
        raise Unsupported(
            f"the device has Python {version}, wanted 3.11 or newer",
            hint="install python3.11 there, for the user alone: uv python install 3.11",
        )
    if device.libc[0] != "glibc":
        raise Unsupported("the device has no glibc, which the wheels of onnxruntime want")
    wheels, missing = _wheels(device)
    parts = [_part("edgeward", _rooms()), *(_part(path.name, path.read_bytes()) for path in wheels)]
    return Runner(tuple(parts), missing)


def _part(name: str, data: bytes) -> Part:
    return Part(name, hashlib.sha256(data).hexdigest(), data)


def _rooms() -> bytes:
    """Our own light rooms; the same bytes for the same files."""
    root = Path(edgeward.__file__).parent
    found = [root / "__init__.py", *(path for room in _ROOMS for path in sorted((root / room).rglob("*")))]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in found:
            if path.is_file() and "__pycache__" not in path.parts:
                name = str(Path("edgeward") / path.relative_to(root))
                archive.writestr(zipfile.ZipInfo(name), path.read_bytes())
    return buffer.getvalue()


def _wheels(device: Device) -> tuple[list[Path], dict[str, str]]:
    """Wheels for the device, fetched once by this machine's pip and kept, and the runtimes that have none."""
    if "onnxruntime" in device.found:  # it comes with a numpy of its own choice, which ours must not hide
        return _fetched(device, ("msgspec",), no_dependencies=True), _left(device)
    wanted, found, missing = list(_BASE), _fetched(device, _BASE), dict[str, str]()
    for runtime, package in _MORE.items():
        try:
            found = _fetched(device, (*wanted, package))
            wanted.append(package)
        except (Unsupported, Unavailable) as error:
            missing[runtime] = error.message
    return found, missing


def _left(device: Device) -> dict[str, str]:
    """Runtimes that a device with an ONNX Runtime of its own does not have."""
    return {
        runtime: f"the device has an onnxruntime of its own but no {package}; install it beside that one"
        for runtime, package in _MORE.items()
        if _MODULES[runtime] not in device.found
    }


def _fetched(device: Device, packages: Sequence[str], *, no_dependencies: bool = False) -> list[Path]:
    """The wheels of these packages and of what they need, which fit together."""
    key = f"{device.arch}-glibc{device.libc[1]}-python{device.python[0]}.{device.python[1]}-{'-'.join(packages)}"
    folder = Path.home() / ".cache" / "edgeward" / "wheels" / key
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            _download(Path(beside) / "new", packages, device, ["--no-deps"] if no_dependencies else [])
            (Path(beside) / "new").rename(folder)
    return sorted(folder.glob("*.whl"))


def _download(folder: Path, packages: Sequence[str], device: Device, options: Sequence[str]) -> None:
    minor = int(device.libc[1].split(".")[1])
    tags = [f"manylinux_2_{tag}_{device.arch}" for tag in range(minor, _OLDEST_GLIBC - 1, -1)]
    platforms = [word for tag in [*tags, f"manylinux2014_{device.arch}"] for word in ("--platform", tag)]
    version = ".".join(map(str, device.python))
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--python-version", version]
    command += [*platforms, *options, "-d", str(folder), *packages]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise _no_wheels(packages[-1], device, done.stderr)


def _no_wheels(package: str, device: Device, complaint: str) -> EdgewardError:
    """What pip's end means: there are none, or they cannot be had now."""
    if "No module named pip" in complaint:
        return Unavailable("pip fetches what the device needs, and is not here", hint=f"{sys.executable} -m ensurepip")
    missing = f"no wheel of {package} for {device.words}"
    if "No matching distribution" in complaint and "Retrying" not in complaint:
        return Unsupported(missing)
    reason = next((line for line in reversed(complaint.splitlines()) if line.startswith("ERROR")), "pip failed")
    return Unavailable(f"{missing} can be had: {reason.removeprefix('ERROR: ')}", hint=f"pip download {package}")
