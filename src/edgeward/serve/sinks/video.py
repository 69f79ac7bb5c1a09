"""An annotated video file: each picture with its boxes and labels."""

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
from av.error import FFmpegError
from msgspec import Meta

from edgeward.kit.errors import Failed, WrongInput
from edgeward.records.base import Document, Positive
from edgeward.serve.picture import picture_of
from edgeward.serve.sinks.base import Outlet, Result, Sink


class VideoOptions(Document):
    """A picture of a live source is shown when it was answered, one of a file `rate_hz` times a second. At
    `max_bytes` the file is finished and becomes NAME.1.mp4, and so on up to `keep`. `codec` is PyAV's name of an
    encoder, such as that of the device's hardware (h264_v4l2m2m)."""

    path: str
    rate_hz: Positive = 10.0
    codec: str = "mpeg4"
    max_bytes: Annotated[int, Meta(ge=1)] = 1_000_000_000
    keep: Annotated[int, Meta(ge=0, le=1000)] = 2


class Recording:
    """A file that is cut off by a power cut can be watched up to there: MP4 is written in fragments."""

    def __init__(self, options: VideoOptions) -> None:
        self._options = options
        self._path = Path(options.path)
        self._file: Any = None
        try:
            av.Codec(options.codec, "w")
        except (FFmpegError, ValueError) as error:
            raise WrongInput(f"{options.codec!r}: there is no such encoder here") from error
        if not self._path.parent.is_dir():
            raise WrongInput(f"{self._path.parent}: no such folder")

    def write(self, result: Result) -> None:
        picture = np.asarray(picture_of(result))
        try:
            if self._file is not None and self._path.stat().st_size > self._options.max_bytes:
                self._finish()
                self._rotate()
            if self._file is None:
                self._begin(picture, result)
            frame = av.VideoFrame.from_ndarray(self._cut(picture), format="rgb24")
            frame.pts = self._pts(result)
            self._file.mux(self._stream.encode(frame))
        except (FFmpegError, ValueError) as error:
            raise Failed(f"{self._path}: cannot be written ({getattr(error, 'strerror', None) or error})") from error

    def _begin(self, picture: Any, result: Result) -> None:
        fragments = {"movflags": "frag_keyframe+empty_moov"} if self._path.suffix.lower() == ".mp4" else {}
        self._file = av.open(str(self._path), "w", options={"flush_packets": "1", **fragments})
        self._stream = self._file.add_stream(self._options.codec, rate=round(self._options.rate_hz) or 1)
        height, width = picture.shape[:2]
        self._stream.width, self._stream.height = width // 2 * 2, height // 2 * 2
        self._stream.pix_fmt = "yuvj420p" if self._options.codec == "mjpeg" else "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, 1000)
        self._began = result.at
        self._first, self._last = result.number, -1

    def _cut(self, picture: Any) -> Any:
        """To the size of the first one, which the file keeps."""
        made = np.zeros((self._stream.height, self._stream.width, 3), np.uint8)
        height, width = min(len(made), len(picture)), min(made.shape[1], picture.shape[1])
        made[:height, :width] = picture[:height, :width]
        return made

    def _pts(self, result: Result) -> int:
        live_ms = round((result.at - self._began).total_seconds() * 1000)
        filed_ms = round((result.number - self._first) * 1000 / self._options.rate_hz)
        self._last = max(self._last + 1, filed_ms if result.age_ms is None else live_ms)  # a clock may jump back
        return self._last

    def _rotate(self) -> None:
        for number in range(self._options.keep, 0, -1):
            older = self._numbered(number - 1) if number > 1 else self._path
            if older.exists():
                older.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.stem}.{number}{self._path.suffix}")

    def _finish(self) -> None:
        file, self._file = self._file, None
        file.mux(self._stream.encode())
        file.close()

    def close(self) -> None:
        if self._file is not None:
            self._finish()


class Video:
    options = VideoOptions

    def open(self, options: VideoOptions, pipeline: str) -> Outlet:  # noqa: ARG002 - the promise names it
        return Recording(options)


plugin: Sink = Video()
