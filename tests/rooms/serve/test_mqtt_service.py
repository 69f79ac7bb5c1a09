"""A service that is asked and answers over MQTT: a real mosquitto, the application of the HTTP server."""

import asyncio
import json
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from parts_around import Broker, broker
from PIL import Image
from serve_small_models import SLOW, echo, onnx_model, served

pytest.importorskip("paho.mqtt")

from test_mqtt import Client

from edgeward.infer import Predictor
from edgeward.infer.runtimes import load
from edgeward.kit.errors import WrongInput
from edgeward.serve import Limits, ServedModel, create_app
from edgeward.serve.models import without_batch
from edgeward.serve.mqtt_link import LinkOptions
from edgeward.serve.mqtt_server import MqttServer
from edgeward.serve.protocol import signature


@pytest.fixture
def mosquitto(tmp_path) -> Iterator[Broker]:
    with broker(tmp_path) as one:
        yield one


def pictures() -> ServedModel:
    session = load("echo").load(echo((4, 6, 3), "uint8"), threads=1)
    ins, outs = ([without_batch(spec) for spec in specs] for specs in (session.inputs, session.outputs))
    face = signature(ins, outs, image=True)
    return ServedModel(Predictor(session), face, name="seen", version="2", platform="", facts={})


def models() -> list[ServedModel]:
    return [served("numbers", "echo", echo((3,))), served("slow", "onnxruntime", onnx_model(SLOW)), pictures()]


class Other(Client):
    """A client that keeps answers by their topics."""

    def __init__(self, port: int) -> None:
        super().__init__(port, "site/+/answer/+")
        self.answers: dict[str, Any] = {}
        self._client.on_message = lambda *told: self.answers.update({told[2].topic: json.loads(told[2].payload)})
        self._client.subscribe("site/+/+/answer/+", 1)


async def until(is_true: Callable[[], Any]) -> None:
    for _ in range(3000):
        if is_true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


def asked(port: int, requests: dict[str, bytes], limits: Limits = Limits()) -> dict[str, Any]:  # noqa: B008 - frozen
    """The answers by their topics."""

    async def all_of_them() -> dict[str, Any]:
        app = create_app(models(), limits)
        service = MqttServer(app, LinkOptions(url=f"mqtt://127.0.0.1:{port}/site"))
        service.start()
        await until(lambda: service._is_there)
        await asyncio.sleep(0.2)  # the subscription
        other = await asyncio.to_thread(Other, port)
        for topic, data in requests.items():
            await asyncio.to_thread(other.say, topic, data)
        await until(lambda: len(other.answers) == len(requests))
        await service.stop()
        other.stop()
        assert all(model.stats.in_flight == 0 for model in app.models)
        assert not app.clients._under_way
        return other.answers

    return asyncio.run(all_of_them())


def request(*values: float, **more: Any) -> bytes:
    return json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [*values]}], **more}
    ).encode()


def test_each_kind_of_request_is_answered_on_its_own_topic(mosquitto):
    pixels = np.random.default_rng(0).integers(0, 120, (4, 6, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    rounds = {"name": "rounds", "shape": [1, 1], "datatype": "INT64", "data": [2000]}
    answers = asked(
        mosquitto.port,
        {
            "site/numbers/infer/1": request(1, 2, 3, id="first"),
            "site/numbers/1.0.0/infer/2": request(4, 5, 6),
            "site/seen/infer/a": file.getvalue(),
            "site/slow/infer/b": json.dumps({"inputs": [rounds]}).encode(),
        },
    )
    assert answers["site/numbers/answer/1"]["outputs"][0]["data"] == [2, 4, 6]
    assert answers["site/numbers/answer/1"]["id"] == "first"
    assert answers["site/numbers/1.0.0/answer/2"]["outputs"][0]["data"] == [8, 10, 12]
    assert answers["site/seen/answer/a"]["outputs"][0]["data"] == (2 * pixels).ravel().tolist()
    assert answers["site/slow/answer/b"]["model_name"] == "slow"


def test_what_is_no_request_is_one_sentence_each(mosquitto):
    limits = Limits(request_bytes=2000)
    binary = {"outputs": [{"name": "x_out", "parameters": {"binary_data": True}}]}
    answers = asked(
        mosquitto.port,
        {
            "site/numbers/infer/rubbish": b"\xff\x00rubbish",
            "site/numbers/infer/empty": b"",
            "site/numbers/infer/long": b" " * 3000,
            "site/numbers/infer/shape": request(1, 2),
            "site/numbers/infer/binary": request(1, 2, 3, **binary),
            "site/other/infer/none": request(1, 2, 3),
            "site/numbers/9/infer/none": request(1, 2, 3),
            "site/numbers%2Fversions%2F1.0.0/infer/odd": request(1, 2, 3),
            "site/numbers/infer/good": request(1, 2, 3),
        },
        limits,
    )
    found = {topic.removeprefix("site/"): answer.get("status", 200) for topic, answer in answers.items()}
    assert found == {
        "numbers/answer/rubbish": 400, "numbers/answer/empty": 400, "numbers/answer/long": 413,
        "numbers/answer/shape": 400, "numbers/answer/binary": 400, "other/answer/none": 404,
        "numbers/9/answer/none": 404, "numbers%2Fversions%2F1.0.0/answer/odd": 404, "numbers/answer/good": 200,
    }  # fmt: skip
    assert all("\n" not in answer.get("error", "") for answer in answers.values())
    assert "'other'" in answers["site/other/answer/none"]["error"]


def test_a_broker_that_comes_later_goes_and_comes_back_is_found(tmp_path):
    one = Broker(tmp_path)
    one.stop()

    async def there_and_back() -> list[int]:
        app = create_app(models(), Limits())
        service = MqttServer(app, LinkOptions(url=f"mqtt://127.0.0.1:{one.port}/site"))
        service.start()
        await until(lambda: service._is_there is False)
        found = []
        for number in (1, 2):
            await asyncio.to_thread(one.start)
            await until(lambda: service._is_there)
            await asyncio.sleep(0.2)
            other = await asyncio.to_thread(Other, one.port)
            await asyncio.to_thread(other.say, f"site/numbers/infer/{number}", request(number, 0, 0))
            await until(lambda: other.answers)  # noqa: B023 - awaited at once
            found += [answer["outputs"][0]["data"][0] for answer in other.answers.values()]
            other.stop()
            await asyncio.to_thread(one.stop)
            await until(lambda: service._is_there is False)
        await service.stop()
        return found

    assert asyncio.run(there_and_back()) == [2, 4]


def test_a_stop_waits_for_the_answers_to_what_has_come(mosquitto):
    async def stopped() -> tuple[int, int]:
        app = create_app(models(), Limits())
        service = MqttServer(app, LinkOptions(url=f"mqtt://127.0.0.1:{mosquitto.port}/site"))
        service.start()
        await until(lambda: service._is_there)
        other = await asyncio.to_thread(Other, mosquitto.port)
        rounds = {"name": "rounds", "shape": [1, 1], "datatype": "INT64", "data": [3000]}
        for number in range(30):
            other._client.publish(f"site/slow/infer/{number}", json.dumps({"inputs": [rounds]}), 1)
        await until(lambda: service._under_way)
        await service.stop()
        asked_ = sum(app.models[1].stats.codes.values())
        await until(lambda: len(other.answers) >= asked_)
        other.stop()
        return asked_, len(other.answers)

    asked_, answered = asyncio.run(stopped())
    assert answered == asked_ > 0


def test_what_the_broker_kept_is_no_request_and_too_much_at_once_is_refused(mosquitto):
    async def refused() -> dict[str, Any]:
        app = create_app(models(), Limits(request_bytes=100))
        service = MqttServer(app, LinkOptions(url=f"mqtt://127.0.0.1:{mosquitto.port}/site"))
        other = await asyncio.to_thread(Other, mosquitto.port)
        other._client.publish("site/numbers/infer/kept", request(1, 2, 3), 1, retain=True).wait_for_publish(20)
        service.start()
        await until(lambda: service._is_there)
        await asyncio.to_thread(other.say, "site/numbers/infer/huge", b" " * 500)
        await until(lambda: other.answers)
        await service.stop()
        other.stop()
        return other.answers

    answers = asyncio.run(refused())
    assert {topic: answer["status"] for topic, answer in answers.items()} == {"site/numbers/answer/huge": 503}


@pytest.mark.parametrize("url", ["http://broker/site", "mqtt://broker/+/site", "mqtt://.b/site", "mqtt://broker/a%23"])
def test_what_is_no_broker_s_address_is_refused(url):
    with pytest.raises(WrongInput, match="wanted"):
        MqttServer(create_app(models(), Limits()), LinkOptions(url=url))
