"""Readings of a serial line: a line of numbers each, or frames of numbers in binary."""

import re
from collections.abc import Iterator
from contextlib import suppress
from threading import Event
from time import monotonic
from typing import Annotated, Literal

import numpy as np
import serial
from msgspec import Meta

from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.records.base import Document
from edgeward.serve.arrival import broken
from edgeward.serve.sources.base import Arrival, Pace, Source, Stream, Wanted
from edgeward.serve.windows import Windows

_LOOK_S = 0.25
_LONGEST_LINE = 65536


class SerialOptions(Document):
    """`frame` is "csv" (numbers in a line, by comma, semicolon, tab or blank), or what a binary frame's numbers are,
    little-endian, after the two bytes AA 55. `columns` picks numbers by their place, from 0; of a model that takes
    windows, one begins each `hop` readings."""

    device: str
    baud: Annotated[int, Meta(ge=50, le=12_000_000)] = 115200
    frame: Literal["csv", "int16", "int32", "float32"] = "csv"
    count: Annotated[int, Meta(ge=1, le=4096)] = 1
    columns: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    hop: Annotated[int, Meta(ge=1)] | None = None


class Line:
    def __init__(self, options: SerialOptions, wanted: Wanted) -> None:
        self._options = options
        self._windows = Windows(wanted, options.hop)
        self._closed = Event()
        device = options.device.removeprefix("//")
        try:
            self._port = serial.Serial(device, options.baud, timeout=_LOOK_S, exclusive=True)
        except (serial.SerialException, OSError, ValueError) as error:
            raise Unavailable(f"{device}: this serial line cannot be opened ({_plain(error)})") from error
        self._device = device

    def __iter__(self) -> Iterator[Arrival]:
        readings = self._lines() if self._options.frame == "csv" else self._frames()
        for reading in readings:
            try:
                sample = self._windows.add(self._picked(reading), self._device)
            except WrongInput as error:
                yield broken(self._device, error, monotonic())
                continue
            if sample is not None:
                yield Arrival(self._device, lambda sample=sample: sample, monotonic())  # type: ignore[misc]

    def _picked(self, reading: list[float] | WrongInput) -> list[float]:
        if isinstance(reading, WrongInput):
            raise reading
        if not self._options.columns:
            return reading
        if max(self._options.columns) >= len(reading):
            raise WrongInput(
                f"{self._device}: a line has {len(reading)} numbers; wanted number {max(self._options.columns)}"
            )
        return [reading[column] for column in self._options.columns]

    def _lines(self) -> Iterator[list[float] | WrongInput]:
        """The first line is left out where it began before we came: half of it may be missing."""
        waiting, is_first = b"", True
        while not self._closed.is_set():
            waiting += self._read()
            if len(waiting) > _LONGEST_LINE:
                waiting = b""
                yield WrongInput(f"{self._device}: no line ended within {_LONGEST_LINE} bytes; is the rate right?")
            *lines, waiting = re.split(rb"\r\n|\n|\r(?!$)", waiting)
            for line in lines:
                text = line.strip()
                if text and not text.startswith(b"#"):
                    reading = self._numbers(text)
                    if not (is_first and isinstance(reading, WrongInput)):
                        yield reading
                    is_first = False

    def _numbers(self, text: bytes) -> list[float] | WrongInput:
        try:
            return [float(word) for word in re.split(rb"[,;\s]+", text.strip(b",; "))]
        except ValueError:
            return WrongInput(f"{self._device}: this line holds no numbers: {text[:60]!r}")

    def _frames(self) -> Iterator[list[float] | WrongInput]:
        """Bytes between frames are skipped, and told once for each stretch."""
        dtype = np.dtype(self._options.frame).newbyteorder("<")
        size = dtype.itemsize * self._options.count
        waiting = b""
        while not self._closed.is_set():
            waiting += self._read()
            while len(waiting) >= 2 + size:
                start = waiting.find(b"\xaa\x55")
                if start != 0:
                    skipped = start if start > 0 else len(waiting) - 1
                    yield WrongInput(f"{self._device}: skipped {skipped} bytes that are no frame")
                    waiting = waiting[skipped:]
                    continue
                yield np.frombuffer(waiting[2 : 2 + size], dtype).astype(np.float64).tolist()
                waiting = waiting[2 + size :]

    def _read(self) -> bytes:
        try:
            return bytes(self._port.read(max(1, self._port.in_waiting)))
        except (serial.SerialException, OSError, TypeError, ValueError) as error:
            if self._closed.is_set():
                return b""
            raise Unavailable(f"{self._device}: the serial line is gone ({_plain(error)})") from error

    def close(self) -> None:
        self._closed.set()
        with suppress(OSError):
            self._port.close()


def _plain(error: Exception) -> str:
    inner = error.__context__ if isinstance(error.__context__, OSError) else error
    return (
        getattr(inner, "strerror", None) or str(error).partition(":")[2].strip() or str(error) or type(error).__name__
    )


class Serial:
    options = SerialOptions

    def pace(self, options: SerialOptions) -> Pace:  # noqa: ARG002 - the promise names it
        return "each"

    def open(self, options: SerialOptions, wanted: Wanted) -> Stream:
        return Line(options, wanted)


plugin: Source = Serial()
