"""Every host that could be contacted, part by part, from what is installed here and not from what we believe."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgeward.kit.errors import Failed
from edgeward.measure.carry import Errand
from edgeward.measure.library_scan import package_folder, scan
from edgeward.records.base import Record

_MODULES = ("edgeward", "edgeward.measure", "edgeward.measure.library_scan")


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
        part="edgeward run",
        hosts=(),
        when="only to addresses that -i, --sink or a pipeline in edgeward.toml names; no redirection is followed",
        state="no outgoing connection to any other host",
    ),
    Contact(
        part="edgeward push, pull, copy",
        hosts=(),
        when="only to the registry that you name, its mirrors that you name, and where it sends them for the bytes",
        state="no outgoing connection to any other host",
    ),
    Contact(
        part="edgeward deploy, export, --target HOST",
        hosts=(),
        when="to the host, and the registry of a base, that you name; for packages that are not kept here yet, pip "
        "asks the index and mmdebstrap the mirror that they are set to here",
        state="no outgoing connection to any other host",
    ),
    Contact(
        part="edgeward, every other verb",
        hosts=(),
        when="never, but for ssh to a HOST that you name: no verb opens a connection except inside this machine",
        state="no outgoing connection; no account, no update check, no reports",
    ),
)


class Scanned(Record):
    """What `measure/library_scan.py` found of the Python packages of a device."""

    onnxruntime: tuple[tuple[str, ...], tuple[str, ...], bool] | None
    openvino_telemetry: tuple[str, ...] | None
    switch: str | None


def contacts_afar(host: str, options: Sequence[str] = ()) -> tuple[Contact, ...]:
    """The same of the Python of `host`, outside edgeward's processes. Raises what an Errand raises."""
    with Errand(host, _MODULES, {}, options) as errand:
        said = next(iter(errand))
    try:
        found = msgspec.convert(said, Scanned)
    except msgspec.ValidationError as error:
        raise Failed(f"{host} gave another answer than it was asked for: {error}") from None
    switch = found.switch
    runtime = _onnxruntime(*found.onnxruntime, switch) if found.onnxruntime else onnxruntime_contact(None, switch)
    if found.openvino_telemetry is None:
        return (*OWN, runtime, openvino_contact(None, None))
    state = "ON for any program there but edgeward, which keeps openvino_telemetry out of its processes"
    when = 'from "import openvino" on'
    return (*OWN, runtime, Contact(part="openvino", hosts=found.openvino_telemetry, when=when, state=state))


def onnxruntime_contact(folder: Path | None, switch: str | None) -> Contact:
    """What the ONNX Runtime in `folder` could contact; `switch` is the value of ORT_DISABLE_TELEMETRY."""
    if folder is None:
        return Contact(part="onnxruntime", hosts=(), when="never: it is not installed", state="absent")
    libraries = sorted(folder.glob("capi/*.so*"))
    if not libraries:
        return Contact(
            part="onnxruntime", hosts=(), when="unknown", state=f"UNKNOWN: no library to look into in {folder}"
        )
    return _onnxruntime(*scan(libraries), switch)


def _onnxruntime(collectors: Sequence[str], mentions: Sequence[str], has_switch: bool, switch: str | None) -> Contact:
    if not collectors:
        return Contact(
            part="onnxruntime",
            hosts=(),
            when="its libraries name no host that collects reports",
            state="no collector in this build",
            mentions=tuple(mentions),
        )
    return Contact(
        part="onnxruntime",
        hosts=tuple(collectors),
        when="from its first import on, unless switched off before",
        state=_state(switch, has_switch),
        mentions=tuple(mentions),
    )


def openvino_contact(folder: Path | None, telemetry: Path | None) -> Contact:
    """What OpenVINO's Python package reports by way of `openvino_telemetry`, which it brings along."""
    if folder is None:
        return Contact(part="openvino", hosts=(), when="never: it is not installed", state="absent")
    if telemetry is None:
        return Contact(
            part="openvino", hosts=(), when="never: openvino_telemetry is not installed", state="no collector here"
        )
    collectors, mentions, _ = scan(sorted(telemetry.rglob("*.py")))
    return Contact(
        part="openvino",
        hosts=collectors,
        when='from "import openvino" on, unless its package openvino_telemetry is kept out before',
        state="off: edgeward keeps openvino_telemetry from being imported in its processes",
        mentions=mentions,
    )


def _state(switch: str | None, has_switch: bool) -> str:
    if switch != "1":
        return f"ON: ORT_DISABLE_TELEMETRY is {switch!r}, wanted '1'"
    if not has_switch:
        return "UNKNOWN: edgeward sets ORT_DISABLE_TELEMETRY=1, but this build does not know it"
    return "off: edgeward sets ORT_DISABLE_TELEMETRY=1 before the import, and this build knows it"
