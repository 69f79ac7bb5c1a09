"""EdgeX Foundry's events (v3 and v4) to readings and back: what is on the wire, and nothing of how it gets there."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import uuid4

import cbor2
import msgspec
import numpy as np

from edgeward.kit.errors import WrongInput
from edgeward.serve.results import Result

_MOST_NUMBERS = 4096
"""An output with more of them is in the object alone: bus messages stay small."""


class Reading(NamedTuple):
    """`value` is a number, a list of numbers, text, bytes or an object, as `kind` (EdgeX's valueType) says."""

    resource: str
    kind: str
    value: Any


class Event(NamedTuple):
    device: str
    source: str
    readings: tuple[Reading, ...]


def event_of(data: bytes, where: str) -> Event:
    """The event in a message: an envelope of v3 or v4 in JSON or CBOR, or an event alone. Raises WrongInput else."""
    try:
        message = _lower(_decoded(data, where))
        if isinstance(message, dict) and "payload" in message:
            message = _payload(message, where)
        if isinstance(message, dict) and "event" in message:
            message = _lower(message["event"])
        if not isinstance(message, dict) or not isinstance(message.get("readings"), list):
            raise WrongInput(f"{where}: this message holds no EdgeX event")
        return _event(message, where)
    except (RecursionError, MemoryError, OverflowError) as error:
        raise WrongInput(f"{where}: this message cannot be unpacked ({type(error).__name__})") from error


def _decoded(data: bytes, where: str) -> Any:
    if data.lstrip()[:1] in (b"{", b"["):
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WrongInput(f"{where}: this is no JSON: {error}") from error
    try:
        return cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, TypeError) as error:
        raise WrongInput(f"{where}: this is neither JSON nor CBOR") from error


def _lower(value: Any) -> Any:
    """Go reads keys without their case, so senders write them as they like."""
    if not isinstance(value, dict):
        return value
    return {key.lower() if isinstance(key, str) else str(key): one for key, one in value.items()}


def _payload(envelope: Mapping[str, Any], where: str) -> Any:
    payload = envelope["payload"]
    if isinstance(payload, str) and envelope.get("errorcode") in (None, 0):
        try:
            payload = base64.b64decode(payload, validate=True)
        except ValueError as error:
            raise WrongInput(f"{where}: its payload is no base64") from error
    if envelope.get("errorcode") not in (None, 0):
        told = payload.decode(errors="replace") if isinstance(payload, bytes) else str(payload)
        raise WrongInput(f"{where}: the message tells an error: {' '.join(told.split())[:200]}")
    return _lower(_decoded(payload, where) if isinstance(payload, bytes) else payload)


def _event(event: Mapping[str, Any], where: str) -> Event:
    source = str(event.get("sourcename") or "")
    readings = tuple(_reading(_lower(one), source, where) for one in event["readings"])
    return Event(str(event.get("devicename") or ""), source, readings)


def _reading(reading: Any, source: str, where: str) -> Reading:
    """What an optimised payload leaves out is the event's: the resource is its source."""
    if not isinstance(reading, dict):
        raise WrongInput(f"{where}: a reading of this event is no object")
    resource = str(reading.get("resourcename") or source)
    kind = str(reading.get("valuetype") or "")
    place = f"{where}: reading {resource!r}"
    if kind == "Binary":
        return Reading(resource, kind, _bytes(reading.get("binaryvalue"), place))
    if kind in ("Object", "ObjectArray"):
        return Reading(resource, kind, reading.get("objectvalue"))
    value = reading.get("value")
    if value is None or kind in ("String", "StringArray"):
        return Reading(resource, kind, value)
    return Reading(resource, kind, _numbers(str(value), kind, place))


def _bytes(value: Any, place: str) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError) as error:
        raise WrongInput(f"{place}: its binary value is no base64") from error


def _numbers(text: str, kind: str, place: str) -> Any:
    """ "1.5e+00", "true", "[1, 2]", as numbers."""
    if not re.fullmatch(r"(Bool|U?[Ii]nt(8|16|32|64)|Float(32|64))(Array)?", kind):
        raise WrongInput(f"{place}: {kind or 'no value type'} is no kind of number")
    words = (
        text.strip().removeprefix("[").removesuffix("]").replace(",", " ").split() if kind.endswith("Array") else [text]
    )
    truth = {"true": 1.0, "false": 0.0}
    try:
        numbers = [truth[word.lower()] if kind.startswith("Bool") else float(word) for word in words]
    except (KeyError, ValueError) as error:
        raise WrongInput(f"{place}: {text[:40]!r} is no {kind}") from error
    return numbers if kind.endswith("Array") else numbers[0]


class Names(NamedTuple):
    """As whom results are published: EdgeX knows a device by its service and profile."""

    service: str
    profile: str
    device: str
    source: str

    @property
    def topic(self) -> str:
        """Where device services publish."""
        return "/".join(["edgex/events/device", *(quote(name, safe="") for name in self)])


def message_of(result: Result, names: Names, *, base64_payload: bool) -> bytes:
    """A result as an AddEventRequest in its envelope: v4's, with the payload as it is, or v3's, in base64."""
    request = {"apiVersion": "v3", "requestId": str(uuid4()), "event": _event_of(result, names)}
    payload = base64.b64encode(msgspec.json.encode(request)).decode() if base64_payload else request
    return msgspec.json.encode(
        {
            "apiVersion": "v3",
            "receivedTopic": "",
            "correlationID": str(uuid4()),
            "requestID": request["requestId"],
            "errorCode": 0,
            "payload": payload,
            "contentType": "application/json",
        }
    )


def _event_of(result: Result, names: Names) -> dict[str, Any]:
    origin = _nanoseconds(result.at)
    common = {"origin": origin, "deviceName": names.device, "profileName": names.profile}
    readings = [
        {"id": str(uuid4()), **common, "resourceName": resource, "valueType": kind, key: value}
        for resource, kind, key, value in _values(result)
    ]
    return {
        "apiVersion": "v3", "id": str(uuid4()), **common, "sourceName": names.source, "readings": readings,
        "tags": {"source": result.source},
    }  # fmt: skip


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000


def _values(result: Result) -> Sequence[tuple[str, str, str, Any]]:
    """The whole document as an object, the best class or box in two readings that rules can look at, and each output
    of numbers."""
    answer = result.answer
    made: list[tuple[str, str, str, Any]] = [("result", "Object", "objectValue", result.document)]
    best = (answer.classes or answer.boxes or (None,))[0]
    if best is not None:
        made += [("label", "String", "value", best.label), ("score", "Float32", "value", f"{best.score:e}")]
    for name, array in answer.outputs.items():
        if array.dtype.kind in "fiub" and array.size <= _MOST_NUMBERS:
            flat = np.nan_to_num(array.reshape(-1).astype(np.float32))
            made.append((name, "Float32Array", "value", "[" + ", ".join(f"{one:e}" for one in flat) + "]"))
    return made


def profile_of(result: Result, names: Names) -> bytes:
    """The device profile that fits results like this one, as core-metadata takes it (JSON is YAML, too)."""
    resources = [
        {"name": resource, "isHidden": False, "properties": {"valueType": kind, "readWrite": "R"}}
        for resource, kind, _, _ in _values(result)
    ]
    profile = {
        "apiVersion": "v3", "name": names.profile, "manufacturer": "Edgeward", "model": names.device,
        "labels": ["inference"], "deviceResources": resources, "deviceCommands": [],
    }  # fmt: skip
    return (json.dumps(profile, indent=2) + "\n").encode()
