"""Where an inference begins and ends, for `edgeward trace`: next to nothing until somebody asks.

A process that runs inferences holds a small memory file. `edgeward trace` finds it among the open files of the
process and sets its first word; from then on each frame is marked or recorded. See docs/decisions/0060.
"""

import ctypes
import mmap
import os
import resource
import struct
from collections.abc import Callable
from itertools import count
from threading import get_ident
from time import perf_counter_ns
from types import TracebackType
from typing import ParamSpec, TypeVar

NAME = "edgeward-frames-1"
"""Of the memory file. The number is that of its layout: ASKED, WRITTEN, six words kept free, then SLOTS frames."""
ASKED, WRITTEN, HEAD_WORDS = 0, 1, 8
SLOTS, SLOT_WORDS = 16384, 8
"""A frame: its sequence number, begin and duration (monotonic nanoseconds). With MARKS also what the marks took. With
FACTS the nanoseconds that its thread waited for a CPU, and of the process: minor and major faults, involuntary and
voluntary switches."""
TIMES, MARKS, FACTS = 1, 2, 4
"""What may be asked, added up: durations; calls that a uprobe sees; what the kernel tells a process of itself."""
BEGIN, END = 0x11, 0x12
SIZE_BYTES = 8 * (HEAD_WORDS + SLOTS * SLOT_WORDS)

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _shared_words() -> memoryview:
    """The memory file as words. Where none can be had, one word that nobody can ask through."""
    try:
        file = os.memfd_create(NAME)
        os.ftruncate(file, SIZE_BYTES)
        return memoryview(mmap.mmap(file, SIZE_BYTES)).cast("Q")
    except OSError:
        return memoryview(bytes(8)).cast("Q")


def _marker() -> Callable[[int], None]:
    """A function of the C library that returns at once for what we ask, begins with a push (decision 60),
    and that nobody else calls; the interpreter stays locked."""
    function = ctypes.PyDLL(None).wctob
    function.argtypes, function.restype = (ctypes.c_int64,), None
    return function


WORDS = _shared_words()
"""WORDS[ASKED] is 0 as long as nobody traces: whoever runs an inference looks at that one word."""

_mark = _marker()
_numbers = count(1)
_threads_in_a_frame: set[int] = set()


def framed(run: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """What `run` returns; marked as one frame where somebody asks."""
    with Frame():
        return run(*args, **kwargs)


class Frame:
    """One frame, from its input to its answer, as a `with` block. A frame inside another belongs to that one.

    The clock runs between the marks: a mark is a trap, on whose way back the kernel likes to give the CPU to others,
    and a wait there would make a frame late of which the kernel's program knows nothing.
    """

    __slots__ = ("_asked", "_before", "_began", "_facts", "_number")

    def __enter__(self) -> None:
        self._asked = WORDS[ASKED]
        if not self._asked:
            return
        thread = get_ident()
        if thread in _threads_in_a_frame:
            self._asked = 0
            return
        _threads_in_a_frame.add(thread)
        self._number = next(_numbers)
        self._facts = _facts() if self._asked & FACTS else ()
        if self._asked & MARKS:
            self._before = perf_counter_ns()
            _mark(self._number << 32 | BEGIN)
        self._began = perf_counter_ns()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._asked:
            return
        took = perf_counter_ns() - self._began
        more: tuple[int, ...] = ()
        if self._asked & MARKS:
            _mark(self._number << 32 | END)
            more = (perf_counter_ns() - self._before - took,)
        _threads_in_a_frame.discard(get_ident())
        if self._facts:
            more = tuple(map(int.__sub__, _facts(), self._facts))
        _record((self._number, self._began, took, *more))


def _record(values: tuple[int, ...]) -> None:
    written = WORDS[WRITTEN]
    place = HEAD_WORDS + written % SLOTS * SLOT_WORDS
    struct.pack_into(f"={len(values)}Q", WORDS, place * 8, *values)
    WORDS[WRITTEN] = written + 1


def _facts() -> tuple[int, ...]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return _run_delay_ns(), used.ru_minflt, used.ru_majflt, used.ru_nivcsw, used.ru_nvcsw


def _run_delay_ns() -> int:
    """How long this thread has waited for a CPU; 0 where the kernel does not count it."""
    try:
        file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        try:
            return int(os.read(file, 64).split()[1])
        finally:
            os.close(file)
    except (OSError, IndexError, ValueError):
        return 0
