"""EdgeX's messages, as v3 and v4 put them on the wire."""

import base64
import json
from datetime import UTC, datetime

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.infer import Answer
from edgeward.infer.postprocess import Class
from edgeward.kit.errors import WrongInput
from edgeward.serve.edgex import Names, event_of, message_of, profile_of
from edgeward.serve.results import Result

EVENT = {
    "apiVersion": "v3", "id": "1", "deviceName": "press-1", "profileName": "press", "sourceName": "vibration",
    "origin": 1700000000000000000,
    "readings": [
        {"resourceName": "x", "valueType": "Float32", "value": "1.500000e+00"},
        {"resourceName": "on", "valueType": "Bool", "value": "true"},
        {"resourceName": "n", "valueType": "Int16Array", "value": "[1, -2]"},
        {"resourceName": "name", "valueType": "String", "value": "press"},
        {"resourceName": "gone", "valueType": "Int8", "value": None},
        {"resourceName": "all", "valueType": "Object", "objectValue": {"a": [1, 2]}},
    ],
}  # fmt: skip
REQUEST = {"apiVersion": "v3", "requestId": "2", "event": EVENT}


def envelope(payload, kind="application/json"):
    return {"apiVersion": "v3", "correlationID": "3", "errorCode": 0, "payload": payload, "contentType": kind}


def base(data):
    return base64.b64encode(data).decode()


MESSAGES = {
    "v4": json.dumps(envelope(REQUEST)).encode(),
    "v3": json.dumps(envelope(base(json.dumps(REQUEST).encode()))).encode(),
    "cbor payload": json.dumps(envelope(base(cbor2.dumps(REQUEST)), "application/cbor")).encode(),
    "cbor": cbor2.dumps(envelope(REQUEST)),
    "cbor in cbor": cbor2.dumps(envelope(cbor2.dumps(REQUEST), "application/cbor")),
    "an event alone": json.dumps(EVENT).encode(),
    "other case": json.dumps(envelope(REQUEST)).replace("payload", "Payload").replace("readings", "Readings").encode(),
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_each_form_of_a_message_gives_the_same_event(message):
    event = event_of(message, "topic")
    assert (event.device, event.source) == ("press-1", "vibration")
    values = {one.resource: one.value for one in event.readings}
    assert values == {"x": 1.5, "on": 1.0, "n": [1, -2], "name": "press", "gone": None, "all": {"a": [1, 2]}}


def test_what_an_optimised_payload_leaves_out_is_the_events():
    event = {"deviceName": "d", "sourceName": "heat", "readings": [{"valueType": "Uint8", "value": "7"}]}
    assert event_of(json.dumps(event).encode(), "t").readings[0] == ("heat", "Uint8", 7.0)


@pytest.mark.parametrize("data", [base(b"\xff\xd8jpeg"), b"\xff\xd8jpeg"])
def test_a_binary_reading_is_bytes_in_json_and_in_cbor(data):
    reading = {"resourceName": "picture", "valueType": "Binary", "binaryValue": data, "mediaType": "image/jpeg"}
    event = {"deviceName": "d", "sourceName": "picture", "readings": [reading]}
    message = cbor2.dumps(event) if isinstance(data, bytes) else json.dumps(event).encode()
    assert event_of(message, "t").readings[0].value == b"\xff\xd8jpeg"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"", "neither JSON nor CBOR"),
        (b"{", "no JSON"),
        (b"\xff\xff", "neither JSON nor CBOR"),
        (b"[]", "no EdgeX event"),
        (b"\x80", "no EdgeX event"),
        (json.dumps(envelope("%%%")).encode(), "no base64"),
        (json.dumps({**envelope("device is down"), "errorCode": 1}).encode(), "tells an error: device is down"),
        (json.dumps({"readings": [7]}).encode(), "is no object"),
        (json.dumps({"readings": [{"valueType": "Int8", "value": "x"}]}).encode(), "'x' is no Int8"),
        (json.dumps({"readings": [{"valueType": "Colour", "value": "1"}]}).encode(), "Colour is no kind of number"),
        (json.dumps({"readings": [{"valueType": "Binary", "binaryValue": 5}]}).encode(), "no base64"),
        (b"[" * 100_000, "cannot be unpacked"),
        (b"\x81" * 100_000, ""),
        (b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", "neither JSON nor CBOR"),
    ],
)
def test_what_is_no_event_is_one_sentence(message, words):
    with pytest.raises(WrongInput) as told:
        event_of(message, "edgex/events")
    assert told.value.message.startswith("edgex/events: ")
    assert words in told.value.message
    assert "\n" not in told.value.message


@given(st.sampled_from(list(MESSAGES.values())), st.data())
def test_a_damaged_message_is_an_event_or_one_sentence(message, data):
    place = data.draw(st.integers(0, len(message) - 1))
    damaged = bytearray(message)
    damaged[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        event_of(bytes(damaged), "t")
    except WrongInput as error:
        assert "\n" not in error.message  # noqa: PT017 - both ends are right


def result():
    outputs = {"scores": np.array([0.25, 0.75], np.float32)}
    answer = Answer(outputs, (Class("two", 1, 0.75),), 0.1, 0.2, 0.3)
    return Result(source="camera", at=datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC), answer=answer, sample={})


@pytest.mark.parametrize("in_base64", [True, False])
def test_a_result_becomes_an_event_that_is_read_back(in_base64):
    names = Names("edgeward", "inference", "door 1/left", "result")
    assert names.topic == "edgex/events/device/edgeward/inference/door%201%2Fleft/result"
    message = message_of(result(), names, base64_payload=in_base64)
    assert isinstance(json.loads(message)["payload"], str) is in_base64
    event = event_of(message, "t")
    values = {one.resource: one.value for one in event.readings}
    assert event.device == "door 1/left"
    assert values["label"] == "two"
    assert values["score"] == 0.75
    assert values["scores"] == [0.25, 0.75]
    assert values["result"]["source"] == "camera"


def test_an_event_has_what_core_data_asks_for():
    names = Names("edgeward", "inference", "door", "result")
    event = json.loads(message_of(result(), names, base64_payload=False))["payload"]["event"]
    assert event["origin"] == 1767323045678900000
    for reading in event["readings"]:
        assert reading["deviceName"] == "door"
        assert reading["profileName"] == "inference"
        assert reading["origin"] == event["origin"]
    profile = json.loads(profile_of(result(), names))
    resources = {one["name"]: one["properties"]["valueType"] for one in profile["deviceResources"]}
    assert resources == {one["resourceName"]: one["valueType"] for one in event["readings"]}
