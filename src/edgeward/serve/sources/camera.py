"""A camera of this machine (V4L2): its newest picture."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from edgeward.kit.errors import Unavailable
from edgeward.records.base import Document, Positive
from edgeward.serve.film import Film, opened
from edgeward.serve.sources.base import Pace, Source, Stream, Wanted


class CameraOptions(Document):
    """What the camera shall send; left out, as the driver likes. `format` is V4L2's, such as mjpeg or yuyv422."""

    device: str
    size: Annotated[str, Meta(pattern=r"^\d+x\d+$")] | None = None
    rate_hz: Positive | None = None
    format: str | None = None


class Camera:
    options = CameraOptions

    def pace(self, options: CameraOptions) -> Pace:  # noqa: ARG002 - the promise names it
        return "newest"

    def open(self, options: CameraOptions, wanted: Wanted) -> Stream:
        if "\0" in options.device or not Path(options.device).exists():
            told = options.device.replace("\0", "")
            raise Unavailable(f"{told}: there is no such camera", hint="ls /dev/video*")
        rate = None if options.rate_hz is None else f"{options.rate_hz:g}"
        said = {"video_size": options.size, "framerate": rate, "input_format": options.format}
        flags = {name: value for name, value in said.items() if value is not None}
        container = opened(options.device, options.device, format="video4linux2", options=flags)
        return Film(container, options.device, wanted, live=True)


plugin: Source = Camera()
