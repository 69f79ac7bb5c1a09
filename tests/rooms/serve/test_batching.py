"""Requests that wait together run together, and each gets its own answer."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from serve_small_models import FIXED, onnx_model, served
from test_models import SPEC, Scripted

from edgeward.infer import Predictor
from edgeward.kit.errors import WrongInput
from edgeward.serve import ServedModel
from edgeward.serve.batching import Batch, judge
from edgeward.serve.protocol import signature
from edgeward.serve.running import Late, Ran

Array = NDArray[Any]


class Gated:
    """y = 2x, not before the gate is open; keeps the size of each run. A sample that begins with -1 is a fault."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.sizes: list[int] = []

    def __call__(self, x: Array) -> Array:
        assert self.gate.wait(60)
        self.sizes.append(len(x))
        if (x[:, 0] == -1).any():
            raise WrongInput("the model does not take this")
        return x * 2


def batched(does: Gated, batch: Batch) -> ServedModel:
    ports = signature([SPEC], [SPEC])
    model = ServedModel(Predictor(Scripted(does)), ports, name="m", version="1", platform="", facts={})
    model.batch_always(batch)
    return model


def x(value: float, count: int = 1) -> dict[str, Array]:
    return {"x": np.full((count, 2), value, np.float32)}


async def asked(model: ServedModel, gate: threading.Event, *requests: Any) -> list[Ran | BaseException]:
    """The answers to requests that all wait behind a first one, which is left out."""
    first = asyncio.create_task(model.answer(x(0), 1))
    await asyncio.sleep(0.02)
    tasks = [asyncio.create_task(model.answer(*one)) for one in requests]
    await asyncio.sleep(0.02)
    gate.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_waits_runs_together_and_each_gets_its_own() -> None:
    does = Gated()
    model = batched(does, Batch(8))
    requests = [(x(1), 1), (x(2, 3), 3), (x(3), 1), (x(4, 4), 4)]
    answers = asyncio.run(asked(model, does.gate, *requests))
    for (tensors, count), answer in zip(requests, answers, strict=True):
        assert isinstance(answer, Ran)
        assert np.array_equal(answer.outputs["y"], tensors["x"] * 2)
        assert len(answer.outputs["y"]) == count
    assert does.sizes == [1, 5, 4]
    assert not model.working


def test_a_fault_is_told_to_the_one_whose_it_is() -> None:
    does = Gated()
    answers = asyncio.run(asked(batched(does, Batch(8)), does.gate, (x(1), 1), (x(-1), 1), (x(3), 1)))
    assert [isinstance(answer, WrongInput) for answer in answers] == [False, True, False]


def test_who_waited_too_long_is_left_out() -> None:
    does = Gated()
    answers = asyncio.run(asked(batched(does, Batch(8)), does.gate, (x(1), 1, 0.0), (x(2), 1)))
    assert isinstance(answers[0], Late)
    assert does.sizes == [1, 1]


def test_the_first_of_a_batch_waits_for_others_until_its_deadline() -> None:
    does = Gated()
    does.gate.set()
    model = batched(does, Batch(3, wait_s=30.0))

    async def three() -> None:
        await asyncio.gather(*(model.answer(x(value), 1) for value in range(3)))

    asyncio.run(three())
    assert does.sizes == [3]
    assert asyncio.run(batched(does, Batch(3, wait_s=0.01)).answer(x(7), 1)).outputs["y"].tolist() == [[14, 14]]


@pytest.mark.parametrize(
    ("alone_s", "together_s", "alike", "pays", "reason"),
    [
        (1.0, 4.0, True, True, "a sample takes 500 ms in a batch of 8, alone 1e+03 ms: up to 8 run together"),
        (1.0, 7.9, True, False, "batches do not pay here"),
        (1.0, 1.0, False, False, "the model answers otherwise in a batch than alone"),
    ],
)
def test_batches_are_made_where_they_pay(
    alone_s: float, together_s: float, alike: bool, pays: bool, reason: str
) -> None:
    verdict = judge(alone_s, together_s, 8, alike=alike)
    assert verdict.pays is pays
    assert reason in verdict.reason


def test_a_model_with_a_fixed_batch_is_told_so() -> None:
    fixed = served("fixed", "onnxruntime", onnx_model(FIXED))
    assert fixed.batch(Batch(4), {"x": np.zeros(2, np.float32)}).startswith("the model has no free batch axis")
