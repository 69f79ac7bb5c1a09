"""What a device is sent so that it can measure: our light rooms, wheels for its Python and processor, and a Python
where its own is too old."""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

import edgeward
from edgeward.kit import debian
from edgeward.kit.errors import Unavailable, Unsupported
from edgeward.kit.wheels import Abi, fetched

_ROOMS = ("records", "kit", "infer", "measure")
_BASE = ("numpy", "msgspec", "onnxruntime")
"""Without these nothing is measured: onnxruntime runs the model as given."""
_MORE = {"litert": "ai-edge-litert", "openvino": "openvino"}
_MODULES = {"litert": "ai_edge_litert", "openvino": "openvino"}
_OLDEST_PYTHON = (3, 11)


class Device(Struct, frozen=True):
    """What the keeper says of its machine; `found` are the packages of runtimes that its own Python has."""

    python: tuple[int, int]
    arch: str
    libc: tuple[str, str]
    emulated: bool
    found: tuple[str, ...]


class Part(NamedTuple):
    """An archive that is unpacked on the device, named by its content; `name` is for people."""

    name: str
    digest: str
    data: bytes


class Runner(NamedTuple):
    """What the device imports, in order, why some runtimes are not among it, and the Python that it is sent."""

    parts: tuple[Part, ...]
    missing: dict[str, str]
    python: Part | None = None
    program: str = ""


def runner_for(device: Device, *, brings_python: bool = True) -> Runner:
    """Where the device's Python is too old or has no glibc, one comes along, if it may: Debian's, as it is in images.

    Raises Unsupported where no wheels run, Unavailable where they cannot be had.
    """
    reason = _why_not(device)
    own = None
    if reason is not None:
        hint = "install python3.11 there, for the user alone: uv python install 3.11"
        if not brings_python:
            raise Unsupported(reason, hint=hint)
        try:
            own = debian.brought(device.arch)
        except (Unsupported, Unavailable) as error:
            raise type(error)(f"{reason}, and none can be brought along: {error.message}", hint=hint) from None
        device = replace(device, python=own.abi.python, libc=("glibc", f"2.{own.abi.glibc}"), found=())
    wheels, missing = _wheels(device)
    parts = (_part("edgeward", _rooms()), *(_part(path.name, path.read_bytes()) for path in wheels))
    if own is None:
        return Runner(parts, missing)
    python = Part("Python 3.11", own.archive.digest.removeprefix("sha256:"), own.archive.path.read_bytes())
    return Runner(parts, missing, python, own.program)


def _why_not(device: Device) -> str | None:
    """Why its own Python runs nothing of ours."""
    if device.python < _OLDEST_PYTHON:
        return f"the device has Python {'.'.join(map(str, device.python))}, wanted 3.11 or newer"
    if device.libc[0] != "glibc":
        return "the device has no glibc, which the wheels of onnxruntime want"
    return None


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
    abi = Abi(device.arch, device.python, int(device.libc[1].split(".")[1]))
    return fetched(abi, packages, no_dependencies=no_dependencies)
