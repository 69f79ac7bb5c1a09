"""Work by threads: its order, its faults, and what is left of it when nobody wants it any more."""

import asyncio
import gc
import threading
from time import monotonic, sleep

import pytest

from edgeward.kit.errors import Unavailable
from edgeward.serve.workers import Workers


def ours(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"edgeward-{name}"]


def until_gone(name: str) -> bool:
    deadline = monotonic() + 20
    while ours(name) and monotonic() < deadline:
        sleep(0.01)
    return not ours(name)


def test_work_is_done_by_as_many_threads_as_there_may_be_and_no_more_than_it_needs() -> None:
    gate = threading.Barrier(2)

    async def asked() -> tuple[int, int]:
        workers = Workers(2, "few")
        await workers.run(lambda: None)
        await workers.run(lambda: None)
        one = len(ours("few"))
        await asyncio.gather(*(workers.run(gate.wait, 20) for _ in range(4)))
        return one, len(ours("few"))

    assert asyncio.run(asked()) == (1, 2)
    gc.collect()
    assert until_gone("few")  # no thread of a model that was taken away is left


def test_work_begins_in_the_order_in_which_it_came() -> None:
    begun: list[int] = []

    async def asked() -> list[int]:
        workers = Workers(1, "order")
        return list(await asyncio.gather(*(workers.run(lambda n=n: begun.append(n) or n) for n in range(50))))

    assert asyncio.run(asked()) == begun == list(range(50))


@pytest.mark.parametrize("fault", [ValueError("no"), SystemExit(3)])
def test_a_fault_is_raised_where_the_work_was_asked_for_and_the_thread_goes_on(fault: BaseException) -> None:
    def fails() -> None:
        raise fault

    async def asked() -> int:
        workers = Workers(1, "faults")
        told: list[BaseException] = []
        workers.begin(told.append, fails)
        answer: int = await workers.run(lambda: 7)
        assert told == [fault]
        return answer

    assert asyncio.run(asked()) == 7


def test_who_does_not_wait_any_more_is_not_told() -> None:
    gate = threading.Event()

    faults: list[dict[str, object]] = []

    async def asked() -> int:
        asyncio.get_running_loop().set_exception_handler(lambda _, about: faults.append(about))
        workers = Workers(1, "left")
        task = asyncio.create_task(workers.run(gate.wait, 20))
        await asyncio.sleep(0)
        task.cancel()
        gate.set()
        answer: int = await workers.run(lambda: 7)
        return answer

    assert asyncio.run(asked()) == 7
    assert faults == []


def test_where_no_thread_can_be_started_it_is_told_and_the_next_work_is_done(monkeypatch) -> None:
    async def asked() -> int:
        workers = Workers(1, "none")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            with pytest.raises(Unavailable, match="no thread can be started"):
                await workers.run(lambda: 7)
        answer: int = await workers.run(lambda: 7)
        return answer

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    assert asyncio.run(asked()) == 7


def test_work_whose_loop_was_closed_is_no_fault() -> None:
    gate = threading.Event()
    workers = Workers(1, "closed")

    async def asked() -> None:
        workers.begin(lambda _: None, gate.wait, 20)

    asyncio.run(asked())
    gate.set()

    async def again() -> int:
        answer: int = await workers.run(lambda: 7)
        return answer

    assert asyncio.run(again()) == 7
