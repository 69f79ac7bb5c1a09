"""Edgeward's own wheel, made of what runs here: the same from a checkout, an editable or a usual install."""

import base64
import hashlib
import io
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import edgeward
from edgeward.kit.errors import Unsupported

_KEPT_METADATA = ("METADATA", "entry_points.txt")


def own_wheel() -> tuple[str, bytes]:
    """Its name and bytes; the same bytes for the same files. Raises Unsupported where nothing tells what it needs."""
    found = own_distribution()
    root = Path(edgeward.__file__).parent
    about = f"edgeward-{edgeward.__version__}.dist-info"
    files = {
        f"edgeward/{path.relative_to(root)}": path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    files |= {f"{about}/{name}": text.encode() for name in _KEPT_METADATA if (text := found.read_text(name))}
    files[f"{about}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: edgeward\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = [f"{name},sha256={_hash(data)},{len(data)}\n" for name, data in files.items()]
    files[f"{about}/RECORD"] = "".join([*lines, f"{about}/RECORD,,\n"]).encode()
    return f"edgeward-{edgeward.__version__}-py3-none-any.whl", _zipped(files)


def own_distribution() -> Distribution:
    """What is installed as edgeward here."""
    try:
        return distribution("edgeward")
    except PackageNotFoundError:
        raise Unsupported(
            "edgeward runs from a folder here and is not installed: nothing tells what it needs",
            hint="pip install --editable FOLDER",
        ) from None


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            head = zipfile.ZipInfo(name)
            head.external_attr = 0o644 << 16
            head.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(head, data)
    return buffer.getvalue()
