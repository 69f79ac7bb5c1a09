"""An EdgeX message bus: a real mosquitto, with events as device services publish them."""

import base64
import json

import cbor2
import msgspec
import numpy as np
from parts_around import InThread, broker, until
from PIL import Image
from pipelines import memory, recording, running
from test_mqtt import FUZZ, Client

from edgeward.infer import Predictor
from edgeward.infer.runtimes import load
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.records.model import TensorSpec
from edgeward.serve import sinks
from edgeward.serve.edgex import event_of
from edgeward.serve.sources import Wanted

TOPIC = "edgex/events/device/device-virtual/press/press-1/vibration"


def event(*readings, device="press-1"):
    named = [{"resourceName": name, "valueType": kind, "value": value} for name, kind, value in readings]
    return {
        "apiVersion": "v3", "errorCode": 0, "contentType": "application/json",
        "payload": {"event": {"deviceName": device, "sourceName": "vibration", "readings": named}},
    }  # fmt: skip


THREE = event(("x", "Float32", "1e+00"), ("y", "Float32", "2e+00"), ("z", "Int8", "3"), ("note", "String", "hello"))


def test_readings_of_an_event_are_a_sample_and_what_is_none_is_told(tmp_path):
    kept = memory()
    with broker(tmp_path) as one, InThread(f"edgex+{one.url}", kept) as pipeline:
        client = Client(one.port)
        until(lambda: client.say(TOPIC, json.dumps(THREE).encode()) or kept.results)
        client.say(TOPIC, cbor2.dumps(THREE))
        client.say(TOPIC, json.dumps(event(("xyz", "Float64Array", "[4, 5, 6]"))).encode())
        for bad in FUZZ:
            client.say(TOPIC, bad)
        client.say(TOPIC, json.dumps(event(("xyz", "Float64Array", "[7, 8, 9]"))).encode())
        until(lambda: kept.results[-1].answer.outputs["x_out"].tolist() == [14, 16, 18])
        client.stop()
    answers = [result.answer.outputs["x_out"].tolist() for result in kept.results]
    assert answers[0] == [2, 4, 6]
    assert [8, 10, 12] in answers
    assert kept.results[0].source == "edgex press-1"
    assert len(pipeline.told) == len(FUZZ)


def test_resources_are_chosen_and_other_devices_left_out(tmp_path):
    kept = memory()
    source = {"use": "edgex", "device": "press-1", "resources": ["z", "y", "x"]}
    with broker(tmp_path) as one, InThread({**source, "url": one.url}, kept):
        client = Client(one.port)
        client.say(TOPIC, json.dumps({**THREE, "payload": event(device="other")["payload"]}).encode())
        client.say(TOPIC, json.dumps(event(("else", "Int8", "1"))).encode())
        until(lambda: client.say(TOPIC, json.dumps(THREE).encode()) or kept.results)
        client.stop()
    assert kept.results[0].answer.outputs["x_out"].tolist() == [6, 4, 2]


def test_a_picture_in_a_binary_reading_reaches_a_model_of_images(tmp_path):
    from io import BytesIO

    file = BytesIO()
    Image.new("RGB", (6, 8), (10, 20, 30)).save(file, "JPEG")
    reading = {"resourceName": "picture", "valueType": "Binary", "mediaType": "image/jpeg"}
    payload = {"event": {"deviceName": "cam", "sourceName": "picture", "readings": [reading]}}
    spec = TensorSpec(name="x", dtype="uint8", shape=("batch", 8, 6, 3))
    wanted = Wanted("pictures", "image", (TensorSpec(name="x", dtype="uint8", shape=(8, 6, 3)),))

    def model():
        return Predictor(load("echo").load(codec.to_json(EchoModel(inputs=(spec,), gain=1.0)), threads=1))

    kept = memory()
    with broker(tmp_path) as one, InThread(f"edgex+{one.url}", kept, model=model, wanted=wanted):
        client = Client(one.port)
        reading["binaryValue"] = base64.b64encode(file.getvalue()).decode()
        until(lambda: client.say("edgex/events/device/s/p/cam/picture", json.dumps(payload).encode()) or kept.results)
        reading["binaryValue"] = file.getvalue()
        client.say("edgex/events/device/s/p/cam/picture", cbor2.dumps(payload))
        until(lambda: len(kept.results) > 1)
        client.stop()
    np.testing.assert_allclose(kept.results[-1].answer.outputs["x_out"].mean(axis=(0, 1)), [10, 20, 30], atol=2)


def test_results_go_out_as_events_of_a_device_with_its_profile(tmp_path):
    profile = tmp_path / "profile.json"
    with broker(tmp_path) as one:
        client = Client(one.port, "edgex/events/device/#")
        member = sinks.load("edgex")
        outlet = member.open(msgspec.convert({"url": one.url, "profile_file": str(profile)}, member.options), "door")
        running(str(recording(tmp_path, 3)), outlet).run()
        until(lambda: len(client.got) == 3)
        client.stop()
    events = [event_of(message, "t") for message in client.got]
    assert [one.device for one in events] == ["door"] * 3
    values = [{reading.resource: reading.value for reading in one.readings} for one in events]
    assert [value["x_out"] for value in values] == [[0, 0, 0], [2, 2, 2], [4, 4, 4]]
    assert [one["name"] for one in json.loads(profile.read_bytes())["deviceResources"]] == ["result", "x_out"]
