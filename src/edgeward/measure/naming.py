"""What a machine is called, and machines like it: cheap enough to ask on any device at any start."""

import re
from pathlib import Path

from edgeward.measure import sysfs

# What makers leave in the fields they forgot to fill.
_NO_NAME = re.compile(
    r"to be filled|default string|system (product|manufacturer)|not specified|o\.e\.m|^none$|^n/a$", re.I
)


def target_name(root: Path = sysfs.ROOT) -> str:
    """A slug for machines like this one: of the board, or of the host name where the board has no name."""
    return slug_of(board_name(root) or hostname(root))


def slug_of(text: str) -> str:
    """The nearest name that a record takes: "Raspberry Pi 5 Model B Rev 1.0" → "raspberry-pi-5-model-b-rev-1.0"."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:63].rstrip("-.") or "machine"


def hostname(root: Path = sysfs.ROOT) -> str:
    return sysfs.text(root / "proc/sys/kernel/hostname") or sysfs.text(root / "etc/hostname") or "unknown"


def board_name(root: Path) -> str | None:
    """What its maker calls it; None where the maker did not say."""
    if model := sysfs.text(root / "proc/device-tree/model"):
        return model
    folder = root / "sys/class/dmi/id"
    for pair in (("sys_vendor", "product_name"), ("board_vendor", "board_name")):
        maker, product = (sysfs.text(folder / name) or "" for name in pair)
        if product and not _NO_NAME.search(product):
            known = maker and not _NO_NAME.search(maker) and maker.lower() not in product.lower()
            return f"{maker} {product}" if known else product
    return None
