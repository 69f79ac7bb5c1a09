"""Sinks of a live source: one that is slow holds nobody up, and what it did not take is counted."""

from collections.abc import Callable
from threading import Thread

from edgeward.serve.outlets import Direct
from edgeward.serve.queue import Queue
from edgeward.serve.results import Outlet, Result

_WAITING = 64
_END_S = 10.0


class Beside(Direct):
    """A sink with a queue and a thread of its own. When the queue is full, its oldest result is dropped. `ended` is
    set where nobody reads what it writes any more."""

    def __init__(self, name: str, outlet: Outlet, tell: Callable[[str], None]) -> None:
        super().__init__(name, outlet, tell)
        self.ended = False
        self._queue: Queue[Result] = Queue(_WAITING, "latest")
        self._thread = Thread(target=self._work, name=f"edgeward-{name}"[:15], daemon=True)
        self._thread.start()

    def put(self, result: Result) -> None:
        self._queue.put(result)
        self.dropped = self._queue.dropped

    def _work(self) -> None:
        try:
            while not self._queue.ended:
                for result in self._queue.take(wait_s=1.0):
                    super().put(result)
        except BrokenPipeError:
            self.ended = True

    def close(self) -> None:
        """Writes what waits, for ten seconds at most."""
        self._queue.close()
        self._thread.join(_END_S)
        if self._thread.is_alive():
            self.dropped += len(self._queue)
            self._tell(f"sink {self.name}: still busy after {_END_S:g} s, {len(self._queue)} results are not written")
        elif not self.ended:
            super().close()
