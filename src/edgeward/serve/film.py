"""Pictures and sound out of files, cameras and streams, by PyAV."""

from collections.abc import Callable, Iterator, Mapping
from threading import Event
from time import monotonic
from typing import Any

import av
from av.error import FFmpegError

from edgeward.infer import Sample
from edgeward.kit.errors import EdgewardError, Unavailable, WrongInput
from edgeward.serve.arrival import Arrival, Wanted, broken

_OPEN_S, _READ_S = 10.0, 4.0


def opened(address: str, shown: str, *, format: str | None = None, options: Mapping[str, str] | None = None) -> Any:
    """The container at `address`. Raises Unavailable, with PyAV's reason, where it is not there or is no such thing."""
    try:
        return av.open(address, format=format, options=dict(options or {}), timeout=(_OPEN_S, _READ_S))
    except (FFmpegError, OSError, ValueError) as error:
        raise Unavailable(f"{shown}: cannot be opened ({reason(error)})") from error


def reason(error: Exception) -> str:
    """Why, in a few words."""
    if isinstance(error, av.error.ExitError):
        return "no answer in time"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()


class Film:
    """The pictures of an open container. One that is `live` has no end of its own: where it ends it went away."""

    def __init__(self, container: Any, shown: str, wanted: Wanted, *, live: bool) -> None:
        self._container = container
        self._shown = shown
        self._live = live
        self._closed = Event()
        self._begun = False
        self._read = picture_reader(wanted, shown)
        if not container.streams.video:
            container.close()
            raise WrongInput(f"{shown}: there are no pictures in it")
        self._stream = container.streams.video[0]
        self._stream.thread_type = "SLICE"  # frames in parallel would come several frames late

    def __iter__(self) -> Iterator[Arrival]:
        self._begun = True
        number = 0
        try:
            for packet in self._packets():
                for arrival in self._decoded(packet, number):
                    number += 1
                    yield arrival
        finally:
            self._container.close()
        if self._live and not self._closed.is_set():
            raise Unavailable(f"{self._shown}: the stream ended")

    def _packets(self) -> Iterator[Any]:
        try:
            for packet in self._container.demux(self._stream):
                if self._closed.is_set():
                    return
                yield packet
        except (FFmpegError, OSError) as error:
            if self._closed.is_set():
                return
            kind: type[EdgewardError] = Unavailable if self._live else WrongInput
            raise kind(f"{self._shown}: cannot be read on ({reason(error)})") from error

    def _decoded(self, packet: Any, number: int) -> Iterator[Arrival]:
        captured_s = monotonic() if self._live else None
        try:
            frames = packet.decode()
        except FFmpegError as error:
            fault = WrongInput(f"{self._shown}[{number}]: this picture cannot be decoded ({reason(error)})")
            yield broken(f"{self._shown}[{number}]", fault, captured_s)
            return
        for place, frame in enumerate(frames):
            name = self._shown if self._live else f"{self._shown}[{number + place}]"
            yield Arrival(name, lambda frame=frame: self._read(frame), captured_s)  # type: ignore[misc]

    def close(self) -> None:
        """A container must not be closed while another thread reads it: it closes at the next packet, or when that
        is given up."""
        self._closed.set()
        if not self._begun:
            self._container.close()


def picture_reader(wanted: Wanted, shown: str) -> Callable[[Any], Sample]:
    """From a frame of PyAV to the model's raw sample. Raises WrongInput where the model takes no pictures."""
    if wanted.kind != "image" or wanted.channels not in (1, 3):
        kinds = {"image": f"images of {wanted.channels} channels", "audio": "recordings", "tensor": "arrays"}
        raise WrongInput(f"{shown}: gives pictures, {wanted.name} takes {kinds[wanted.kind]}")
    name, layout = wanted.inputs[0].name, "rgb24" if wanted.channels == 3 else "gray"

    def read(frame: Any) -> Sample:
        picture = frame.to_ndarray(format=layout)
        return {name: picture if picture.ndim == 3 else picture[:, :, None]}

    return read
