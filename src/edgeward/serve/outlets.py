"""Results to sinks: one that is slow or fails holds nobody up, and what it did not take is counted."""

from collections.abc import Callable
from threading import Thread

from edgeward.kit.errors import EdgewardError, Failed, from_os_error
from edgeward.serve.queue import Queue
from edgeward.serve.results import Result
from edgeward.serve.sinks.base import Outlet

_WAITING = 64
_END_S = 10.0


class Direct:
    """A sink that is written to by whoever has a result: as slow as it is, so slow is the source. For files."""

    def __init__(self, name: str, outlet: Outlet, tell: Callable[[str], None]) -> None:
        self.name = name
        self.written = self.failed = self.dropped = 0
        self._outlet = outlet
        self._tell = tell

    def put(self, result: Result) -> None:
        if self._went_well(lambda: self._outlet.write(result)):
            self.written += 1

    def close(self) -> None:
        self._went_well(self._outlet.close)

    def _went_well(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except BrokenPipeError:
            raise  # who read our standard output has gone: that ends the run, as with any program in a pipe
        except EdgewardError as error:
            fault = error
        except OSError as error:
            fault = from_os_error(error)
        except Exception as error:  # noqa: BLE001 - the one broad catch of a sink: inference goes on whatever it does
            fault = Failed(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        else:
            return True
        self.failed += 1
        self._tell(f"sink {self.name}: {fault.message}")
        return False


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
