"""A live source in a thread of its own: what it gives goes into the queue; one that went away is opened again."""

import random
from collections.abc import Callable, Iterator
from threading import Event, Thread

from edgeward.kit.errors import EdgewardError, Failed, Unavailable, from_os_error
from edgeward.kit.retry import delays
from edgeward.serve.queue import Queue
from edgeward.serve.sources.base import Arrival, Stream

_END_S = 5.0
"""A driver that does not let go of its thread within that is left behind."""


class Feed:
    """`opens` opens the source. `reopened` counts how often it came back; `captured` what it gave. `fault` is why the
    feed ended, where that was no good end."""

    def __init__(
        self,
        opens: Callable[[], Stream],
        queue: Queue[Arrival],
        tell: Callable[[str], None],
        *,
        first: Stream | None,
        waits: Callable[[], Iterator[float]] = lambda: delays(random.random),
    ) -> None:
        self.captured = 0
        self.reopened = 0
        self.fault: EdgewardError | None = None
        self._opens = opens
        self._queue = queue
        self._tell = tell
        self._stream = first
        self._new_waits = waits
        self._waits = waits()
        self._is_anew = False
        self._stopping = Event()
        self._thread = Thread(target=self._feed, name="edgeward-source", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Gives up the source; what waits in the queue stays there."""
        self._stopping.set()
        self._queue.close()
        if (stream := self._stream) is not None:
            stream.close()
        self._thread.join(_END_S)

    def _feed(self) -> None:
        try:
            while not self._stopping.is_set() and not self._is_done():
                pass
        except EdgewardError as error:
            self.fault = error
        except OSError as error:
            self.fault = from_os_error(error)
        except Exception as error:  # noqa: BLE001 - the one broad catch of this thread: its runner must not wait for ever
            self.fault = Failed(f"the source ended: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        finally:
            self._queue.close()

    def _is_done(self) -> bool:
        """Whether the source has ended by itself; False where it went away, and is there again."""
        try:
            if self._stream is None:
                self._reopen()
            for arrival in self._stream or ():
                if self._is_anew:
                    self._is_anew, self._waits = False, self._new_waits()
                if not self._queue.put(arrival):
                    break
                self.captured += 1
        except Unavailable as error:
            if self._stopping.is_set():
                return True
            self._tell(f"{error.message}; trying again")
            self._close()
            return False
        self._close()
        return True

    def _reopen(self) -> None:
        """Waits longer from one try to the next; a source that gave something since begins anew."""
        self._stopping.wait(next(self._waits))
        if self._stopping.is_set():
            return
        self._stream, self._is_anew = self._opens(), True
        self.reopened += 1
        self._tell("the source is there again")

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
