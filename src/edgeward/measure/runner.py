"""What a device is sent so that it can measure: our light rooms, and wheels for its Python and processor."""

import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from msgspec import Struct

import edgeward
from edgeward.kit.errors import Unavailable, Unsupported

_ROOMS = ("records", "kit", "infer", "measure")
_PACKAGES = ("numpy", "msgspec", "onnxruntime")
_GLIBC_TAGS = (17, 24, 26, 27, 28, 31, 34, 35, 39)
_OLDEST_PYTHON = (3, 11)


class Device(Struct, frozen=True):
    """What the keeper says of its machine."""

    python: tuple[int, int]
    arch: str
    libc: tuple[str, str]
    emulated: bool
    found: tuple[str, ...]


def archives(device: Device) -> list[bytes]:
    """The zips to unpack there, in order. Raises Unsupported where no wheels run."""
    if device.python < _OLDEST_PYTHON:
        version = ".".join(map(str, device.python))
        raise Unsupported(f"the device has Python {version}, wanted 3.11 or newer", hint="install python3.11 there")
    missing = [name for name in _PACKAGES if name not in device.found]
    return [path.read_bytes() for path in (_wheels(device) if missing else [])] + [_rooms()]


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


def _wheels(device: Device) -> list[Path]:
    """Wheels for the device, fetched once by this machine's pip and kept."""
    if device.libc[0] != "glibc":
        raise Unsupported("the device has no glibc, which the wheels of onnxruntime want")
    minor = int(device.libc[1].split(".")[1])
    tags = [f"manylinux_2_{tag}_{device.arch}" for tag in _GLIBC_TAGS if tag <= minor]
    version = ".".join(map(str, device.python))
    folder = Path.home() / ".cache" / "edgeward" / "wheels" / f"{device.arch}-glibc2.{minor}-python{version}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            _download(Path(beside) / "new", tags, version, device)
            (Path(beside) / "new").rename(folder)
    return sorted(folder.glob("*.whl"))


def _download(folder: Path, tags: list[str], version: str, device: Device) -> None:
    platforms = [word for tag in [*tags, f"manylinux2014_{device.arch}"] for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--python-version", version]
    done = subprocess.run([*command, *platforms, "-d", str(folder), *_PACKAGES], capture_output=True, text=True)
    if done.returncode != 0:
        reason = "".join(done.stderr.strip().splitlines()[-1:])
        raise Unavailable(f"no wheels for Python {version} on {device.arch}: {reason}", hint="pip download onnxruntime")
