"""A microphone of this machine (ALSA): windows of its waveform."""

from collections.abc import Iterator
from threading import Event
from time import monotonic
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.records.base import Document, Positive
from edgeward.serve.film import opened, reason
from edgeward.serve.sources.base import Arrival, Pace, Source, Stream, Wanted


class MicrophoneOptions(Document):
    """`device` is ALSA's name, such as default or hw:1,0. A window is as long as the model takes, or `window_s`; the
    next begins `hop_s` later (default: where it ended)."""

    device: str
    window_s: Positive | None = None
    hop_s: Positive | None = None
    rate_hz: Positive | None = None


class Waves:
    def __init__(self, options: MicrophoneOptions, wanted: Wanted) -> None:
        device = options.device.removeprefix("alsa://") or "default"
        if wanted.kind != "audio":
            raise WrongInput(f"{device}: gives sound, {wanted.name} takes none")
        rate_hz = wanted.sample_rate_hz or int(options.rate_hz or 16000)
        self._length = _window(options, wanted, rate_hz)
        self._hop = min(self._length, round(options.hop_s * rate_hz)) if options.hop_s else self._length
        self._name = wanted.inputs[0].name
        self._device = device
        self._closed = Event()
        self._begun = False
        flags = {"sample_rate": str(int(options.rate_hz or rate_hz)), "channels": "1"}
        self._container = opened(device.replace("\0", ""), f"microphone {device}", format="alsa", options=flags)
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)

    def __iter__(self) -> Iterator[Arrival]:
        self._begun = True
        heard = np.empty(0, np.float32)
        try:
            for block in self._blocks():
                heard = np.concatenate([heard, block])
                while len(heard) >= self._length:
                    window, heard = heard[: self._length].copy(), heard[self._hop :]
                    yield Arrival(self._device, lambda window=window: {self._name: window}, monotonic())  # type: ignore[misc]
        finally:
            self._container.close()
        if not self._closed.is_set():
            raise Unavailable(f"microphone {self._device}: the sound ended")

    def _blocks(self) -> Iterator[Any]:
        try:
            for frame in self._container.decode(audio=0):
                if self._closed.is_set():
                    return
                for part in self._resampler.resample(frame):
                    yield part.to_ndarray().reshape(-1)
        except (FFmpegError, OSError) as error:
            raise Unavailable(f"microphone {self._device}: the sound is gone ({reason(error)})") from error

    def close(self) -> None:
        self._closed.set()
        if not self._begun:
            self._container.close()


def _window(options: MicrophoneOptions, wanted: Wanted, rate_hz: int) -> int:
    length = wanted.inputs[0].shape[0]
    if options.window_s is not None:
        return max(1, round(options.window_s * rate_hz))
    if isinstance(length, int):
        return length
    raise WrongInput(f"{wanted.name} takes recordings of any length: wanted window_s", hint="alsa://default?window_s=1")


class Microphone:
    options = MicrophoneOptions

    def pace(self, options: MicrophoneOptions) -> Pace:  # noqa: ARG002 - the promise names it
        return "each"

    def open(self, options: MicrophoneOptions, wanted: Wanted) -> Stream:
        return Waves(options, wanted)


plugin: Source = Microphone()
