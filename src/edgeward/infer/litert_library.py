"""LiteRT's C library, for its profiler, which the Python package does not pass on: a compiled model and its events.

The library is the one in the package `ai-edge-litert`; the calls are those of its C headers (litert/c).
"""

import ctypes
from collections.abc import Mapping
from ctypes import (
    byref,
    c_bool,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint,
    c_uint32,
    c_uint64,
    c_void_p,
)
from functools import cache
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

import ai_edge_litert
import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import Unsupported

OPERATOR, DELEGATED = 2, 8
"""Kinds of event: an operator that the interpreter ran itself; one that ran inside XNNPACK."""

_KINDS = frozenset(1 << place for place in range(9))
_LONGEST_US = 600_000_000
_CPU, _WRITE = 1, 1
_MOST_DIMS = 8
_DESTROY = ctypes.CFUNCTYPE(None, c_void_p)
_kept = _DESTROY(lambda _: None)  # the options' text is Python's own, and stays


class Event(NamedTuple):
    """What the profiler tells of one operator of one run."""

    tag: str
    kind: int
    place: int
    elapsed_us: int


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rank", c_uint, 7), ("has_strides", c_bool, 1), ("dims", c_int32 * _MOST_DIMS),
        ("strides", c_uint32 * _MOST_DIMS),
    )  # fmt: skip


class _TensorType(ctypes.Structure):
    _fields_ = (("element", c_int), ("layout", _Layout))


class _Event(ctypes.Structure):
    """As LiteRT 2.3 has it. The memory figures are of three words each."""

    _fields_ = (
        ("tag", c_void_p), ("kind", c_int), ("start_us", c_uint64), ("elapsed_us", c_uint64),
        ("memory", c_int64 * 6), ("place", c_uint64), ("more", c_uint64), ("source", c_int),
    )  # fmt: skip


@cache
def _library() -> Any:
    try:
        return ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"))
    except OSError as error:
        raise Unsupported(f"LiteRT's C library does not load here: {error}") from error


def _call(name: str, *given: Any) -> None:
    """Raises Unsupported where the library lacks the call or it does not succeed."""
    function = getattr(_library(), name, None)
    if function is None:
        raise Unsupported(f"this LiteRT has no {name}")
    status = function(*given)
    if status != 0:
        raise Unsupported(f"LiteRT's {name} answered with status {status}")


class CompiledModel:
    """A model in LiteRT's compiled form on the CPU, with its profiler on. Lives as long as its process."""

    def __init__(self, model: bytes, threads: int) -> None:
        self._bytes = ctypes.create_string_buffer(model, len(model))
        self._environment, self._model, self._compiled = c_void_p(), c_void_p(), c_void_p()
        self._texts = [
            ctypes.create_string_buffer(text)
            for text in (b"enable_profiling = true\n", f"num_threads = {threads}\n".encode())
        ]
        _call("LiteRtCreateEnvironment", 0, None, byref(self._environment))
        _call("LiteRtCreateModelFromBuffer", self._environment, self._bytes, c_size_t(len(model)), byref(self._model))
        _call("LiteRtCreateCompiledModel", self._environment, self._model, self._options(), byref(self._compiled))
        self._profiler = c_void_p()
        self.took_ms: list[float] = []
        _call("LiteRtCompiledModelGetProfiler", self._compiled, byref(self._profiler))
        self._inputs, self._outputs = self._buffers("Input"), self._buffers("Output")

    def feed(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Writes inputs, by place: what a kernel costs does not depend on which of two alike is which."""
        for buffer, value in zip(self._inputs, values.values(), strict=True):
            size, address = c_size_t(), c_void_p()
            _call("LiteRtGetTensorBufferSize", c_void_p(buffer), byref(size))
            data = np.ascontiguousarray(value)
            if size.value < data.nbytes:
                raise Unsupported("LiteRT's compiled form has other input shapes than these")
            _call("LiteRtLockTensorBuffer", c_void_p(buffer), byref(address), _WRITE)
            ctypes.memmove(address, data.ctypes.data, data.nbytes)
            _call("LiteRtUnlockTensorBuffer", c_void_p(buffer))

    def run(self) -> list[Event]:
        """One inference and what the profiler tells of it."""
        _call("LiteRtResetProfiler", self._profiler)
        _call("LiteRtStartProfiler", self._profiler)
        begin = perf_counter_ns()
        _call(
            "LiteRtRunCompiledModel", self._compiled, c_size_t(0), c_size_t(len(self._inputs)), self._inputs,
            c_size_t(len(self._outputs)), self._outputs,
        )  # fmt: skip
        self.took_ms.append((perf_counter_ns() - begin) / 1e6)
        _call("LiteRtStopProfiler", self._profiler)
        count = c_int()
        _call("LiteRtGetNumProfilerEvents", self._profiler, byref(count))
        if not count.value:
            return []
        events = (_Event * (2 * count.value))()  # room to spare, should another version's be longer
        _call("LiteRtGetProfilerEvents", self._profiler, count, events)
        return [_checked(events[place]) for place in range(count.value)]

    def _options(self) -> c_void_p:
        options = c_void_p()
        _call("LiteRtCreateOptions", byref(options))
        _call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
        for name, text in zip((b"runtime_options_string", b"xnnpack"), self._texts, strict=True):
            opaque = c_void_p()
            _call("LiteRtCreateOpaqueOptions", c_char_p(name), text, _kept, byref(opaque))
            _call("LiteRtAddOpaqueOptions", options, opaque)
        return options

    def _buffers(self, side: str) -> Any:
        graph, count = c_void_p(), c_size_t()
        _call("LiteRtGetModelSubgraph", self._model, c_size_t(0), byref(graph))
        _call(f"LiteRtGetNumSubgraph{side}s", graph, byref(count))
        buffers = (c_void_p * count.value)()
        for place in range(count.value):
            tensor, kind, wanted, buffer = c_void_p(), _TensorType(), c_void_p(), c_void_p()
            _call(f"LiteRtGetSubgraph{side}", graph, c_size_t(place), byref(tensor))
            _call("LiteRtGetRankedTensorType", tensor, byref(kind))
            _call(
                f"LiteRtGetCompiledModel{side}BufferRequirements", self._compiled, c_size_t(0), c_size_t(place),
                byref(wanted),
            )  # fmt: skip
            _call(
                "LiteRtCreateManagedTensorBufferFromRequirements", self._environment, byref(kind), wanted, byref(buffer)
            )
            buffers[place] = buffer
        return buffers


def _checked(event: _Event) -> Event:
    """Raises Unsupported for what a version with another event would give: its text is read only where all fits."""
    if event.kind not in _KINDS or not event.tag:
        raise Unsupported("this LiteRT's profiler tells its events in a form that is not known")
    if event.kind in (OPERATOR, DELEGATED) and event.elapsed_us > _LONGEST_US:
        raise Unsupported("this LiteRT's profiler tells its events in a form that is not known")
    tag = ctypes.cast(event.tag, c_char_p).value or b""
    return Event(tag.decode(errors="replace"), event.kind, event.place, event.elapsed_us)
