"""Every host that could be contacted, part by part, from what is installed here and not from what we believe."""

import mmap
import os
import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from edgeward.records.base import Record

# Collectors that machine-learning packages are known to report to.
_COLLECTORS = (
    b"events.data.microsoft.com", b"vortex.data.microsoft.com", b"dc.services.visualstudio.com",
    b"google-analytics.com", b"googletagmanager.com", b"sentry.io", b"segment.io", b"mixpanel.com", b"amplitude.com",
)  # fmt: skip
_LABELS_BEFORE = re.compile(rb"(?:[a-z0-9-]+\.)*$")
_ADDRESS = re.compile(rb"https?://([a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,})")
_SWITCH = b"ORT_DISABLE_TELEMETRY"
_LONGEST_HOST = 253


class Contact(Record):
    """A part of the installation, the hosts it could contact and what stands in the way.

    `mentions` are addresses in its files that nothing is known to contact: links in documentation and licences.
    """

    part: str
    hosts: tuple[str, ...]
    when: str
    state: str
    mentions: tuple[str, ...] = ()


def contacts() -> tuple[Contact, ...]:
    """Edgeward's own parts, then the runtimes as they are installed here. Reads libraries: a tenth of a second."""
    return (
        *OWN,
        onnxruntime_contact(package_folder("onnxruntime"), os.environ.get("ORT_DISABLE_TELEMETRY")),
        openvino_contact(package_folder("openvino"), package_folder("openvino_telemetry")),
    )


OWN = (
    Contact(
        part="edgeward serve",
        hosts=(),
        when="it listens, on 127.0.0.1 unless --host names another address; it connects to nothing",
        state="no outgoing connection",
    ),
    Contact(
        part="edgeward, every other verb",
        hosts=(),
        when="never: no verb opens a connection except inside this machine",
        state="no outgoing connection; no account, no update check, no reports",
    ),
)


def onnxruntime_contact(folder: Path | None, switch: str | None) -> Contact:
    """What the ONNX Runtime in `folder` could contact; `switch` is the value of ORT_DISABLE_TELEMETRY."""
    if folder is None:
        return Contact(part="onnxruntime", hosts=(), when="never: it is not installed", state="absent")
    libraries = sorted(folder.glob("capi/*.so*"))
    if not libraries:
        return Contact(
            part="onnxruntime", hosts=(), when="unknown", state=f"UNKNOWN: no library to look into in {folder}"
        )
    collectors, mentions, has_switch = _scan(libraries)
    if not collectors:
        return Contact(
            part="onnxruntime",
            hosts=(),
            when="its libraries name no host that collects reports",
            state="no collector in this build",
            mentions=mentions,
        )
    return Contact(
        part="onnxruntime",
        hosts=collectors,
        when="from its first import on, unless switched off before",
        state=_state(switch, has_switch),
        mentions=mentions,
    )


def openvino_contact(folder: Path | None, telemetry: Path | None) -> Contact:
    """What OpenVINO's Python package reports by way of `openvino_telemetry`, which it brings along."""
    if folder is None:
        return Contact(part="openvino", hosts=(), when="never: it is not installed", state="absent")
    if telemetry is None:
        return Contact(
            part="openvino", hosts=(), when="never: openvino_telemetry is not installed", state="no collector here"
        )
    collectors, mentions, _ = _scan(sorted(telemetry.rglob("*.py")))
    return Contact(
        part="openvino",
        hosts=collectors,
        when='from "import openvino" on, unless its package openvino_telemetry is kept out before',
        state="off: edgeward keeps openvino_telemetry from being imported in its processes",
        mentions=mentions,
    )


def package_folder(name: str) -> Path | None:
    """Where the package stands, without importing it; None when it is not installed."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _state(switch: str | None, has_switch: bool) -> str:
    if switch != "1":
        return f"ON: ORT_DISABLE_TELEMETRY is {switch!r}, wanted '1'"
    if not has_switch:
        return "UNKNOWN: edgeward sets ORT_DISABLE_TELEMETRY=1, but this build does not know it"
    return "off: edgeward sets ORT_DISABLE_TELEMETRY=1 before the import, and this build knows it"


def _scan(libraries: Iterable[Path]) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
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
