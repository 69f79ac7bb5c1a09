"""Samples out of an MQTT broker and results into one: a real mosquitto."""

import json
from io import BytesIO

import msgspec
import numpy as np
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from parts_around import InThread, broker, free_port, until
from pipelines import memory, recording, running

from edgeward.infer import Predictor
from edgeward.infer.runtimes import load
from edgeward.infer.runtimes.echo import EchoModel
from edgeward.kit import codec
from edgeward.kit.errors import Unavailable
from edgeward.records.model import TensorSpec
from edgeward.serve import sinks
from edgeward.serve.sources import Wanted


@pytest.fixture
def mosquitto(tmp_path):
    with broker(tmp_path) as one:
        yield one


class Client:
    """Another program at the broker."""

    def __init__(self, port, topic=None):
        self.got = []
        self._ready = topic is None
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda client, data, message: self.got.append(message.payload)
        self._client.on_subscribe = lambda *_: setattr(self, "_ready", True)
        self._client.on_connect = lambda *_: topic and self._client.subscribe(topic, 1)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        until(lambda: self._ready)

    def say(self, topic, payload):
        until(self._client.is_connected, "the other client's connection")
        self._client.publish(topic, payload, 1).wait_for_publish(60)

    def stop(self):
        self._client.disconnect()
        self._client.loop_stop()


def npz(**arrays):
    file = BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


FUZZ = [
    b"", b"{", b"[1,2", b'{"y": 1}', b"[[1,2,3],[4]]", b'["a","b","c"]', b"[1,2,3,4]", b"[1e999,1,1]", b"[null,1,1]",
    b"[" * 100_000, b"\xff\xfe\xfd", b"\xff\xd8\xff\xe0 no image", b"PK\x03\x04 no archive", b"RIFF....WAVE",
    npz(x=np.zeros((2, 2), np.float32)), npz(x=np.array([1j, 2, 3])), npz(x=np.array([1, 2, 3]))[:-30], bytes(11),
    bytes(13), b'{"x": {"x": {"x": 1}}}', b"\x00" * 5_000_000, "✗".encode(), b"true", b'"text"',
]  # fmt: skip


def test_each_way_to_say_three_numbers_is_understood(mosquitto):
    kept = memory()
    client = Client(mosquitto.port)
    three = np.array([1, 2, 3], np.float32)
    said = [b"[1, 2, 3]", b'{"x": [1, 2.0, 3]}', b"[[1, 2, 3]]", npz(x=three), npz(values=three), three.tobytes()]
    with InThread(f"{mosquitto.url}/sensors/+", kept) as pipeline:
        until(lambda: pipeline.told or client_reaches(client, kept), "the first answer")
        for payload in said:
            client.say("sensors/one", payload)
        until(lambda: len(not_zero(kept)) == len(said))
    client.stop()
    assert pipeline.told == []
    for result in not_zero(kept):
        assert result.answer.outputs["x_out"].tolist() == [2, 4, 6]
        assert result.source == f"{mosquitto.url}/sensors/one"
        assert result.age_ms >= 0


def not_zero(kept):
    return [result for result in list(kept.results) if result.answer.outputs["x_out"].any()]


def client_reaches(client, kept):
    """Whether the pipeline has subscribed: it answers what is said."""
    client.say("sensors/one", b"[0, 0, 0]")
    return bool(kept.results)


def test_numbers_are_picked_out_of_an_object_by_name(mosquitto):
    kept = memory()
    client = Client(mosquitto.port)
    source = {"use": "mqtt", "url": mosquitto.url, "topic": "room", "fields": ["air.heat", "air.wet", "light"]}
    with InThread(source, kept):
        until(lambda: client.say("room", b'{"air": {"heat": 20.5, "wet": 0.25}, "light": 7}') or kept.results)
    client.stop()
    assert kept.results[0].answer.outputs["x_out"].tolist() == [41, 0.5, 14]


def test_what_is_no_sample_is_one_sentence_each_and_the_next_one_is_answered(mosquitto):
    kept = memory()
    client = Client(mosquitto.port)
    with InThread(f"{mosquitto.url}/sensors/one", kept) as pipeline:
        until(lambda: client_reaches(client, kept))
        for payload in FUZZ:
            client.say("sensors/one", payload)
        client.say("sensors/one", b"[1, 2, 3]")
        until(lambda: not_zero(kept))
    client.stop()
    assert len(not_zero(kept)) == 1
    assert len(pipeline.told) == len(FUZZ)
    for sentence in pipeline.told:
        assert sentence.startswith(f"{mosquitto.url}/sensors/one: ")
        assert "\n" not in sentence
        assert len(sentence) < 300


def test_an_image_in_a_message_reaches_a_model_of_images(mosquitto):
    from PIL import Image

    spec = TensorSpec(name="x", dtype="uint8", shape=("batch", 8, 6, 3))
    wanted = Wanted("pictures", "image", (TensorSpec(name="x", dtype="uint8", shape=(8, 6, 3)),))
    kept = memory()
    client = Client(mosquitto.port)
    file = BytesIO()
    Image.new("RGB", (6, 8), (10, 20, 30)).save(file, "PNG")

    def model():
        return Predictor(load("echo").load(codec.to_json(EchoModel(inputs=(spec,))), threads=1))

    with InThread(f"{mosquitto.url}/camera", kept, model=model, wanted=wanted):
        until(lambda: client.say("camera", file.getvalue()) or kept.results)
    client.stop()
    assert kept.results[0].answer.outputs["x_out"][0, 0].tolist() == [10, 20, 30]


def test_a_broker_that_goes_away_and_comes_back_is_found_again(mosquitto):
    kept = memory()
    client = Client(mosquitto.port)
    with InThread(f"{mosquitto.url}/sensors/one", kept) as pipeline:
        until(lambda: client_reaches(client, kept))
        mosquitto.stop()
        until(lambda: pipeline.told)
        mosquitto.start()
        before = len(kept.results)
        until(lambda: client_reaches(client, kept) and len(kept.results) > before)
    client.stop()
    assert pipeline.counts.reopened == 1
    assert "the connection is gone" in pipeline.told[0]
    assert pipeline.told[-1] == "the source is there again"


def test_nobody_at_the_address_is_not_reachable():
    with pytest.raises(Unavailable, match=r"mqtt://127\.0\.0\.1:1: not reachable"):
        running("mqtt://user:secret@127.0.0.1:1/topic").run()


def sink(**options):
    member = sinks.load("mqtt")
    return member.open(msgspec.convert(options, member.options), "door")


def test_results_are_published_as_json(mosquitto, tmp_path):
    client = Client(mosquitto.port, "edge/door")
    counts = running(str(recording(tmp_path, 5)), sink(url=f"{mosquitto.url}/edge/{{pipeline}}")).run()
    until(lambda: len(client.got) == 5)
    client.stop()
    assert [json.loads(line)["outputs"]["x_out"][0] for line in client.got] == [0, 2, 4, 6, 8]
    assert counts.sinks == {}


def test_what_ends_before_the_broker_has_answered_loses_nothing(mosquitto, tmp_path):
    client = Client(mosquitto.port, "edge")
    kept = memory()
    running(str(recording(tmp_path, 1)), kept).run()
    for _ in range(20):  # each opened, written to and closed at once
        outlet = sink(url=f"{mosquitto.url}/edge")
        outlet.write(kept.results[0])
        outlet.close()
    until(lambda: len(client.got) == 20)
    client.stop()


def test_results_wait_for_a_broker_that_comes_later(tmp_path):
    from parts_around import Broker

    (tmp_path / "later").mkdir()
    one = Broker(tmp_path / "later")
    one.stop()
    outlet = sink(url=f"{one.url}/edge", keep=10)
    kept = memory()
    running(str(recording(tmp_path, 5)), kept).run()
    for result in kept.results:
        outlet.write(result)
    one.start()
    client = Client(one.port, "edge")
    until(lambda: len(client.got) == 5)
    outlet.close()
    client.stop()
    one.stop()


def test_what_is_more_than_may_wait_is_told_and_counted(tmp_path):
    told = []
    outlet = sink(url=f"mqtt://127.0.0.1:{free_port()}/edge", keep=3)
    counts = running(str(recording(tmp_path, 10)), outlet, told=told).run()
    assert counts.sinks["sink-0"] == 8
    assert "3 messages wait for it already" in told[0]
    assert "3 results were not taken before the end" in told[-1]
