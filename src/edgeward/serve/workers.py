"""Threads that run one model for an event loop.

An Executor of the standard library and a task for each request do the same for ten times what a hand-over takes here,
which is felt where a model takes half a millisecond.
"""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple

from edgeward.kit.errors import Unavailable
from edgeward.kit.threads import name_this

Done = Callable[[Any], None]
"""Called in the event loop, with what the work returned or the exception that it raised."""


class _Job(NamedTuple):
    loop: asyncio.AbstractEventLoop
    ended: Done
    work: Callable[..., Any]
    given: tuple[Any, ...]


class Workers:
    """At most `count` threads called `name`, which start when there is work and end with this. Work begins in the
    order in which it came. Owned by the event loop."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._started = self._under_way = 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    def begin(self, done: Done, work: Callable[..., Any], *given: Any) -> None:
        """`work(*given)` in a thread, then `done` in the running loop. Raises Unavailable where no thread can be."""
        if self._started < min(self._under_way + 1, self._count):
            self._start()
        self._under_way += 1
        self._jobs.put(_Job(asyncio.get_running_loop(), partial(self._ended, done), work, given))

    async def run(self, work: Callable[..., Any], *given: Any) -> Any:
        """What `work(*given)` returns or raises, by a thread."""
        future = asyncio.get_running_loop().create_future()
        self.begin(partial(settle, future), work, *given)
        return await future

    def _ended(self, done: Done, result: Any) -> None:
        self._under_way -= 1
        done(result)

    def _start(self) -> None:
        name = f"edgeward-{self._name}"
        try:
            threading.Thread(target=_work_off, args=(self._jobs, self._name), name=name, daemon=True).start()
        except RuntimeError as error:
            if self._started:
                return  # the others do it
            raise Unavailable(f"no thread can be started for model {self._name!r}: {error}") from error
        self._started += 1
        # No thread holds on to this, so that those of a model that was taken away end.
        weakref.finalize(self, self._jobs.put, None).atexit = False


def settle(future: asyncio.Future[Any], result: Any) -> None:
    """Ends the wait for it, where somebody still waits."""
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


def returned(result: Any) -> Any:
    """What the work returned. Raises what it raised."""
    if isinstance(result, BaseException):
        raise result
    return result


def _work_off(jobs: "SimpleQueue[_Job | None]", name: str) -> None:
    name_this(name)
    while (job := jobs.get()) is not None:
        result: Any
        try:
            result = job.work(*job.given)
        except BaseException as error:  # noqa: BLE001 - raised again where the work was asked for
            result = error
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            job.loop.call_soon_threadsafe(job.ended, result)
        del job, result  # a thread that waits holds on to nobody's frame
