"""A bounded queue between two threads, which says what it gave up."""

from collections import deque
from threading import Condition
from time import monotonic
from typing import Generic, TypeVar

from edgeward.records.flow import Policy

T = TypeVar("T")


class Queue(Generic[T]):
    """At most `size` things wait. When one more comes, "latest" gives up the oldest of them, and `dropped` counts it;
    "all" lets the giver wait until there is room."""

    def __init__(self, size: int, policy: Policy) -> None:
        self.size = size
        self.policy = policy
        self.dropped = 0
        self._waiting: deque[T] = deque()
        self._changed = Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def ended(self) -> bool:
        """Whether nothing is in it and nothing will come."""
        return self._closed and not self._waiting

    def put(self, one: T) -> bool:
        """Whether it was taken: a closed queue takes nothing."""
        with self._changed:
            if self.policy == "all":
                self._changed.wait_for(lambda: self._closed or len(self._waiting) < self.size)
            if self._closed:
                return False
            if len(self._waiting) >= self.size:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(one)
            self._changed.notify_all()
            return True

    def take(self, most: int = 1, *, wait_s: float, gather_s: float = 0.0) -> list[T]:
        """Up to `most` of them, the oldest first: those that are there `gather_s` after the first one was, or as soon
        as they are `most`. None after `wait_s` without any, and at once where it has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, wait_s)
            if most > 1 and self._waiting:
                self._gather(most, gather_s)
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._changed.notify_all()
            return taken

    def _gather(self, most: int, gather_s: float) -> None:
        until = monotonic() + gather_s
        while len(self._waiting) < min(most, self.size) and not self._closed:
            if (left := until - monotonic()) <= 0 or not self._changed.wait(left):
                return

    def close(self) -> None:
        """Nothing more is taken in; what waits can still be taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
