"""Where a model's work is done, how requests queue for it, and what happens when it fails."""

import asyncio
import json
import os
import threading
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from serve_small_models import echo, served

from edgeward.infer import Predictor
from edgeward.infer.runtimes.base import Tensors
from edgeward.kit.errors import Failed, WrongInput
from edgeward.records.model import Resize, TensorSpec
from edgeward.serve import Application, Limits, ServedModel, create_app
from edgeward.serve.connection import Answer, Asked
from edgeward.serve.models import ALONE_LIMIT_S, INLINE_LIMIT_S, Crowd, learned, retry_after_s, runs_inline
from edgeward.serve.protocol import signature
from edgeward.serve.running import run

SPEC = TensorSpec(name="x", dtype="float32", shape=(2,))


class Scripted:
    """A session that does what a function says; the promise of a runtime without its engine."""

    inputs = (TensorSpec(name="x", dtype="float32", shape=("batch", 2)),)
    outputs = (TensorSpec(name="y", dtype="float32", shape=("batch", 2)),)

    def __init__(self, does: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        self._does = does

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        return [self._does(feeds["x"])]


def model_that(does: Callable[[NDArray[Any]], NDArray[Any]], version: str = "1") -> ServedModel:
    ports = signature([SPEC], [TensorSpec(name="y", dtype="float32", shape=(2,))])
    return ServedModel(Predictor(Scripted(does)), ports, name="m", version=version, platform="scripted", facts={})


def post(path: str = "/v2/models/m/infer", body: bytes = b"") -> Asked:
    asked = Asked("192.0.2.7")
    asked.method, asked.url, asked.body = b"POST", path.encode(), body
    return asked


def ask(
    app: Application, path: str = "/v2/models/m/infer", data: Any = (1, 2)
) -> Coroutine[Any, Any, tuple[int, bytes, Any]]:
    """One request straight into the application, without a network: status, header lines, document."""
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": data}]}).encode()

    async def asked() -> tuple[int, bytes, Any]:
        one = post(path, body)
        answer = app.opened(one) or app.hold(one, len(body)) or app.answer(one)
        if not isinstance(answer, Answer):
            answer = await answer
        app.closed(one)
        return answer.status, answer.head, json.loads(answer.body)

    return asked()


@pytest.mark.parametrize(
    ("expected_s", "ahead", "inline"),
    [(0.0002, 0, True), (0.0049, 0, True), (0.005, 0, False), (float("inf"), 0, False), (0.0002, 1, False)],
)
def test_short_work_with_nothing_ahead_is_done_inline(expected_s: float, ahead: int, inline: bool) -> None:
    assert runs_inline(expected_s, ahead) is inline


def test_one_client_that_asks_again_and_again_is_no_crowd_and_its_longer_work_is_done_inline_too() -> None:
    crowd = Crowd()
    for _ in range(40):
        crowd.asks("camera", 0)
        crowd.ended_s = perf_counter()
    assert not crowd.is_here
    assert crowd.inline_limit_s == ALONE_LIMIT_S
    crowd.asks("another", 0)
    assert crowd.inline_limit_s == INLINE_LIMIT_S
    for _ in range(40):
        crowd.asks(None, 0)
    assert crowd.inline_limit_s == INLINE_LIMIT_S, "whose requests these are is not known"


@pytest.mark.parametrize(
    ("clients", "pause_s", "is_crowd"), [(8, 0.0, True), (8, 1.0, False), (4, 0.0, False), (None, 0.0, True)]
)
def test_clients_are_a_crowd_where_many_are_there_and_the_next_one_waits_already(
    clients: int | None, pause_s: float, is_crowd: bool
) -> None:
    crowd = Crowd()
    for number in range(80):
        crowd.ended_s = perf_counter() - pause_s
        crowd.asks(None if clients is None else number % clients, 1 if clients is None else 0)
    assert crowd.is_here is is_crowd
    for _ in range(40):
        crowd.ended_s = perf_counter()
        crowd.asks("the only one left", 0)
    assert not crowd.is_here


def test_two_requests_of_a_crowd_run_at_the_same_time_where_the_session_bears_it() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one CPU")
    both = threading.Barrier(2)

    class Concurrent(Scripted):
        concurrent = True

    def does(x: NDArray[Any]) -> NDArray[Any]:
        both.wait(60)  # the first run ends when the second one has begun
        return x

    ports = signature([SPEC], [TensorSpec(name="y", dtype="float32", shape=(2,))])
    model = ServedModel(Predictor(Concurrent(does)), ports, name="m", version="1", platform="", facts={})
    app = create_app([model], Limits())

    async def two() -> list[tuple[int, bytes, Any]]:
        return await asyncio.gather(ask(app), ask(app))

    assert [status for status, _, _ in asyncio.run(two())] == [200, 200]
    assert model_that(does).at_most == 1, "no other session is trusted with that"


def test_one_late_run_does_not_move_short_work_to_the_thread_and_many_do() -> None:
    assert learned(float("inf"), 0.2) == 0.2
    assert runs_inline(learned(0.0003, 0.2), 0)
    expected_s = 0.0003
    for _ in range(20):
        expected_s = learned(expected_s, 0.2)
    assert not runs_inline(expected_s, 0)
    for _ in range(60):
        expected_s = learned(expected_s, 0.0003)
    assert runs_inline(expected_s, 0)


@pytest.mark.parametrize(
    ("waiting", "sample_s", "seconds"), [(64, 0.0001, 1), (10, 0.25, 3), (64, 100, 60), (1, float("inf"), 60)]
)
def test_a_client_is_told_to_come_back_when_the_queue_has_moved(waiting: int, sample_s: float, seconds: int) -> None:
    assert retry_after_s(waiting, sample_s) == seconds


def test_a_model_becomes_inline_when_it_proves_short() -> None:
    threads: list[str] = []

    def does(x: NDArray[Any]) -> NDArray[Any]:
        threads.append(threading.current_thread().name)
        return x

    model = model_that(does)
    app = create_app([model], Limits())

    async def twice() -> None:
        await ask(app)
        model.sample_s = 0.0001
        await ask(app)
        model.sample_s = 1.0
        await ask(app)

    asyncio.run(twice())
    assert [name.startswith("edgeward-m") for name in threads] == [True, False, True]


def test_a_sample_much_longer_than_usual_goes_to_the_thread() -> None:
    threads: list[str] = []

    class FreeLength:
        inputs = (TensorSpec(name="x", dtype="float32", shape=("batch", "n")),)
        outputs = (TensorSpec(name="y", dtype="float32", shape=("batch", "n")),)

        def run(self, feeds: Tensors) -> list[NDArray[Any]]:
            threads.append(threading.current_thread().name)
            return [feeds["x"]]

    free = [TensorSpec(name="x", dtype="float32", shape=("n",))]
    model = ServedModel(Predictor(FreeLength()), signature(free, free), name="m", version="1", platform="", facts={})
    model.warm_up({"x": np.zeros(10, np.float32)}, runs=1)

    async def short_and_long() -> None:
        for length in (10, 100_000):
            model.sample_s = 0.001
            await model.answer({"x": np.zeros((1, length), np.float32)}, 1)

    asyncio.run(short_and_long())
    assert [name.startswith("edgeward-m") for name in threads] == [False, False, True]


def test_warming_up_learns_how_long_a_sample_takes() -> None:
    model = served("echo", "echo", echo((3,)))
    model.warm_up({"x": np.zeros(3, np.float32)})
    assert 0 < model.sample_s < 1


def test_a_full_queue_turns_the_next_away_and_loses_nobody() -> None:
    gate = threading.Event()

    def does(x: NDArray[Any]) -> NDArray[Any]:
        assert gate.wait(60)
        return x * 2

    model = model_that(does)
    app = create_app([model], Limits(waiting=2))

    async def three() -> list[tuple[int, bytes, Any]]:
        first, second = asyncio.create_task(ask(app)), asyncio.create_task(ask(app))
        while model.stats.in_flight < 2:
            await asyncio.sleep(0)
        third = await ask(app)
        gate.set()
        return [await first, await second, third]

    (one, _, reply), (two, _, _), (three_, headers, told) = asyncio.run(three())
    assert (one, two, three_) == (200, 200, 503)
    assert reply["outputs"][0]["data"] == [2.0, 4.0]
    assert b"retry-after: 60\r\n" in headers
    assert told["error"] == "model 'm': 2 requests are waiting already; try again in 60 s"
    assert model.stats.codes == {200: 2, 503: 1}
    assert model.stats.in_flight == 0


def test_bodies_in_memory_are_bounded_over_all_clients() -> None:
    model = model_that(lambda x: x)
    app = create_app([model], Limits(request_bytes=100))

    clients = [post() for _ in range(5)]
    for one in clients:
        assert app.opened(one) is None
    refusals = [app.hold(one, 90) for one in clients]
    assert refusals[:4] == [None] * 4
    assert refusals[4] is not None
    assert refusals[4].status == 503
    for one in clients:
        one.gone = True
        app.closed(one)
    assert model.stats.codes == {503: 1, 499: 4}
    assert asyncio.run(ask(create_app([model], Limits())))[0] == 200


def test_a_client_has_its_own_limits_beside_the_others() -> None:
    model = model_that(lambda x: x)
    app = create_app([model], Limits(client_requests=2, client_bytes=100))
    mine, other = [post() for _ in range(3)], post()
    other.address = "192.0.2.8"
    refusals = [app.opened(one) for one in (*mine, other)]
    assert [one and one.status for one in refusals] == [None, None, 503, None]
    assert b"2 requests of 192.0.2.7 are under way already" in (refusals[2] or Answer(0, b"", b"")).body
    assert app.hold(mine[0], 60) is None
    refused = app.hold(mine[1], 60)
    assert refused is not None
    assert b"the requests of 192.0.2.7 hold 120 bytes already; it may have 100" in refused.body
    assert app.hold(other, 60) is None
    for one in (*mine, other):
        app.closed(one)
    assert app.opened(post()) is None


def test_a_request_that_waited_too_long_is_not_run() -> None:
    gate, runs = threading.Event(), []

    def does(x: NDArray[Any]) -> NDArray[Any]:
        runs.append(1)
        assert gate.wait(60)
        return x

    app = create_app([model_that(does)], Limits(timeout_s=0.01))

    async def two() -> list[tuple[int, bytes, Any]]:
        first, second = asyncio.create_task(ask(app)), asyncio.create_task(ask(app))
        await asyncio.sleep(0.05)
        gate.set()
        return [await first, await second]

    (one, _, _), (two_, _, told) = asyncio.run(two())
    assert (one, two_, len(runs)) == (200, 504, 1)
    assert told["error"].endswith("the request waited for its turn until its deadline had passed; it was not run")


@pytest.mark.parametrize(
    ("fault", "status", "told"),
    [
        (Failed("inference failed in the engine: it broke"), 500, "inference failed in the engine: it broke"),
        (WrongInput("the model does not take this"), 400, "the model does not take this"),
        (ZeroDivisionError("oh\nno"), 500, "model 'm' failed on this request; the server's log says why"),
    ],
)
def test_a_failure_is_one_sentence_and_one_line(
    fault: Exception, status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def does(x: NDArray[Any]) -> NDArray[Any]:
        raise fault

    model = model_that(does)
    assert asyncio.run(ask(create_app([model], Limits())))[::2] == (status, {"error": told})
    said = capsys.readouterr().err
    assert said.count("\n") == (status == 500)
    assert "Traceback" not in said
    if status == 500:
        assert said.startswith("warning inference-failed model=m version=1 reason=")
    assert model.stats.codes == {status: 1}


def test_the_newest_version_answers_where_none_is_named() -> None:
    versions = ["1.9", "1.10", "2.0-rc1", "1.10-beta"]
    models = [model_that(lambda x, index=index: x * index, version) for index, version in enumerate(versions)]  # type: ignore[misc]
    app = create_app(models, Limits())
    assert asyncio.run(ask(app))[2]["model_version"] == "2.0-rc1"
    assert (
        asyncio.run(ask(create_app([*models, model_that(lambda x: x, "2.0")], Limits())))[2]["model_version"] == "2.0"
    )
    assert asyncio.run(ask(app, "/v2/models/m/versions/1.9/infer"))[2]["outputs"][0]["data"] == [0.0, 0.0]


def test_two_of_the_same_name_and_version_are_refused() -> None:
    with pytest.raises(WrongInput, match="m 1 is given twice"):
        create_app([model_that(lambda x: x), model_that(lambda x: x)], Limits())


def test_many_samples_give_what_each_gives_alone() -> None:
    generator = np.random.default_rng(7)
    images = generator.integers(0, 255, (70, 6, 5, 3), np.uint8)
    spec = TensorSpec(name="x", dtype="uint8", shape=("batch", 4, 4, 3))

    class Mean:
        inputs = (spec,)
        outputs = (TensorSpec(name="y", dtype="float64", shape=("batch", 3)),)

        def run(self, feeds: Tensors) -> list[NDArray[Any]]:
            return [feeds["x"].mean(axis=(1, 2))]

    predictor = Predictor(Mean(), preprocess=(Resize(height=4, width=4),))
    together = run(predictor, {"x": images}, len(images))
    alone = [run(predictor, {"x": image[None]}, 1).outputs["y"] for image in images]
    assert np.array_equal(together.outputs["y"], np.concatenate(alone))
    assert min(together.pre_s, together.infer_s) > 0
