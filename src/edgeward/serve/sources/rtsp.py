"""A camera's RTSP stream: its newest picture."""

from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from edgeward.kit.errors import WrongInput
from edgeward.records.base import Document
from edgeward.serve.film import Film, opened
from edgeward.serve.sources.base import Pace, Source, Stream, Wanted


class RtspOptions(Document):
    """`url` is passed on as it is, its query included. "udp" is quicker over a good network, and loses pictures over a
    bad one."""

    url: str
    transport: Literal["tcp", "udp"] = "tcp"


class Rtsp:
    options = RtspOptions

    def pace(self, options: RtspOptions) -> Pace:  # noqa: ARG002 - the promise names it
        return "newest"

    def open(self, options: RtspOptions, wanted: Wanted) -> Stream:
        try:
            parts = urlsplit(options.url)
            netloc = parts.netloc.rpartition("@")[2]
        except ValueError as error:
            raise WrongInput(f"{options.url.rpartition('@')[2]}: is no address ({error})") from error
        if parts.scheme not in ("rtsp", "rtsps") or not netloc or "\0" in options.url:
            raise WrongInput(f"{options.url!r}: is no address; wanted rtsp://HOST[:PORT]/PATH")
        shown = urlunsplit((parts.scheme, netloc, parts.path, "", ""))  # names and passwords stay out of it
        flags = {"rtsp_transport": options.transport, "fflags": "nobuffer", "flags": "low_delay"}
        return Film(opened(options.url, shown, options=flags), shown, wanted, live=True)


plugin: Source = Rtsp()
