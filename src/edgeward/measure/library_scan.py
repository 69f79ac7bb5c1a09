"""Looks into the libraries of Python packages for the hosts that they name.

This file runs on a device with nothing but Python 3.9; it imports the standard library alone.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Collectors that machine-learning packages are known to report to.
_COLLECTORS = (
    b"events.data.microsoft.com", b"vortex.data.microsoft.com", b"dc.services.visualstudio.com",
    b"google-analytics.com", b"googletagmanager.com", b"sentry.io", b"segment.io", b"mixpanel.com", b"amplitude.com",
)  # fmt: skip
_LABELS_BEFORE = re.compile(rb"(?:[a-z0-9-]+\.)*$")
_ADDRESS = re.compile(rb"https?://([a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,})")
_SWITCH = b"ORT_DISABLE_TELEMETRY"
_LONGEST_HOST = 253


def main(asked: dict[str, Any]) -> None:  # noqa: ARG001 - how what is carried is started
    """What the Python that runs this has, in one line."""
    runtime, telemetry = package_folder("onnxruntime"), package_folder("openvino_telemetry")
    libraries = sorted(runtime.glob("capi/*.so*")) if runtime else []
    found = {
        "onnxruntime": scan(libraries) if libraries else None,
        "openvino_telemetry": scan(sorted(telemetry.rglob("*.py")))[0] if telemetry else None,
        "switch": os.environ.get("ORT_DISABLE_TELEMETRY"),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def package_folder(name: str) -> Path | None:
    """Where the package stands, without importing it; None when it is not installed."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def scan(libraries: Iterable[Path]) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    collectors: set[str] = set()
    mentions: set[str] = set()
    has_switch = False
    for library in libraries:
        if library.stat().st_size == 0:
            continue
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            collectors.update(_collectors(text))
            mentions.update(found.decode() for found in _ADDRESS.findall(text))
            has_switch = has_switch or text.find(_SWITCH) >= 0
    return tuple(sorted(collectors)), tuple(sorted(mentions - collectors)), has_switch


def _collectors(text: mmap.mmap) -> Iterator[str]:
    for name in _COLLECTORS:
        at = text.find(name)
        while at >= 0:
            before = text[max(0, at - _LONGEST_HOST) : at]
            labels = _LABELS_BEFORE.search(before)
            # In "notsentry.io" the name is the end of another one.
            if labels and (labels.group() or not before[-1:].isalnum()):
                yield (labels.group() + name).decode()
            at = text.find(name, at + 1)
