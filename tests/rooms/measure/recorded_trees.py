"""Writes a recorded tree of a machine."""

from collections.abc import Mapping
from pathlib import Path


def grow(root: Path, files: Mapping[str, str], drivers: Mapping[str, str] | None = None) -> Path:
    """Writes `files` under `root`, and for each device folder of `drivers` the link to its driver."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    for device, driver in (drivers or {}).items():
        (root / device).mkdir(parents=True, exist_ok=True)
        (root / device / "driver").symlink_to(f"../../../bus/drivers/{driver}")
    return root
