"""The pictures of a video file, one by one, as fast as the model takes them."""

from pathlib import Path

from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.records.base import Document
from edgeward.serve.film import Film, opened
from edgeward.serve.sources.base import Pace, Source, Stream, Wanted


class VideoOptions(Document):
    path: str


class Video:
    options = VideoOptions

    def pace(self, options: VideoOptions) -> Pace:  # noqa: ARG002 - the promise names it
        return "on demand"

    def open(self, options: VideoOptions, wanted: Wanted) -> Stream:
        path = Path(options.path)
        if "\0" in options.path or not path.exists():
            raise WrongInput(f"{options.path!r}: no such file".replace("'", ""))
        if not path.is_file():
            raise WrongInput(f"{path}: is no file, wanted a video")
        try:
            container = opened(str(path), str(path))
        except Unavailable as error:
            raise WrongInput(error.message.replace("cannot be opened", "this is no video that can be read")) from error
        return Film(container, str(path), wanted, live=False)


plugin: Source = Video()
