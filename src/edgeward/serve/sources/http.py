"""A picture or message behind a URL, asked for again and again; or the stream of pictures (MJPEG) that is there."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Annotated, Any

import urllib3
from msgspec import Meta
from urllib3.exceptions import HTTPError

from edgeward.infer import Sample
from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.records.base import Document, Positive
from edgeward.serve.multipart import Parts, boundary_of
from edgeward.serve.payload import Payload, sample_of
from edgeward.serve.sources.base import Arrival, Pace, Source, Stream, Wanted


class HttpOptions(Document):
    """A URL that gives one picture or message is asked every `interval_s`. It is not followed to other hosts. A name
    and password in the URL are sent as HTTP's basic authentication; a password is better kept in `password_file`."""

    url: str
    interval_s: Positive = 1.0
    payload: Payload = "auto"
    fields: tuple[str, ...] = ()
    password_file: str | None = None
    ca_file: str | None = None
    most_bytes: Annotated[int, Meta(ge=1)] = 64_000_000


class Asked:
    def __init__(self, options: HttpOptions, wanted: Wanted) -> None:
        try:
            parts = urllib3.util.parse_url(options.url)
        except HTTPError as error:
            raise WrongInput(f"{options.url.rpartition('@')[2]!r}: is no address") from error
        if parts.scheme not in ("http", "https") or not parts.host or "\0" in options.url:
            raise WrongInput(f"{options.url.rpartition('@')[2]!r}: is no address; wanted http://HOST/PATH")
        self._options = options
        self._wanted = wanted
        self._shown = parts._replace(auth=None, query=None, fragment=None).url  # passwords and tokens stay out of it
        self._url = parts._replace(auth=None).url
        self._headers = _authentication(parts.auth, options.password_file)
        self._closed = Event()
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=5, read=10), retries=False, ca_certs=options.ca_file
        )
        self._first = self._get()

    def _get(self) -> Any:
        try:
            reply = self._pool.request("GET", self._url, headers=self._headers, preload_content=False, redirect=False)
        except (HTTPError, OSError, ValueError) as error:
            raise Unavailable(f"{self._shown}: not reachable ({_reason(error)})") from error
        if reply.status in range(300, 400) and reply.headers.get("Location"):
            reply.close()
            raise WrongInput(f"{self._shown}: sends us to another address; wanted the one that answers itself")
        if reply.status != 200:
            reply.close()
            raise Unavailable(f"{self._shown}: answers {reply.status} {reply.reason or ''}".rstrip())
        return reply

    def __iter__(self) -> Iterator[Arrival]:
        boundary = boundary_of(self._first.headers.get("Content-Type", ""))
        return self._stream(boundary) if boundary else self._polled()

    def _stream(self, boundary: bytes) -> Iterator[Arrival]:
        parts = Parts(boundary, self._options.most_bytes)
        try:
            for data in self._first.stream(65536):
                if self._closed.is_set():
                    return
                for part in parts.add(data, self._shown):
                    yield self._arrival(part)
        except (HTTPError, OSError) as error:
            raise Unavailable(f"{self._shown}: the stream is gone ({_reason(error)})") from error
        finally:
            self._first.close()
        raise Unavailable(f"{self._shown}: the stream ended")

    def _polled(self) -> Iterator[Arrival]:
        reply, due_s = self._first, monotonic()
        while True:
            yield self._arrival(self._body(reply))
            due_s = max(due_s + self._options.interval_s, monotonic())
            if self._closed.wait(max(0.0, due_s - monotonic())):
                return
            reply = self._get()

    def _body(self, reply: Any) -> bytes:
        try:
            data: bytes = reply.read(self._options.most_bytes + 1)
            reply.release_conn()
        except (HTTPError, OSError) as error:
            raise Unavailable(f"{self._shown}: the answer broke off ({_reason(error)})") from error
        if len(data) > self._options.most_bytes:
            reply.close()
            raise WrongInput(f"{self._shown}: answers more than {self._options.most_bytes} bytes; see most_bytes")
        return data

    def _arrival(self, data: bytes) -> Arrival:
        def read() -> Sample:
            said = self._options
            return sample_of(data, self._shown, self._wanted, payload=said.payload, fields=said.fields)

        return Arrival(self._shown, read, monotonic())

    def close(self) -> None:
        self._closed.set()


def _authentication(user: str | None, password_file: str | None) -> dict[str, str]:
    if password_file is not None:
        user = f"{(user or '').partition(':')[0]}:{Path(password_file).read_text().rstrip()}"
    return dict(urllib3.make_headers(basic_auth=user)) if user else {}


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", None) or error
    while inner.__context__ is not None and not isinstance(inner, OSError):
        inner = inner.__context__
    return getattr(inner, "strerror", None) or " ".join(str(inner).split())[:100] or type(inner).__name__


class Http:
    options = HttpOptions

    def pace(self, options: HttpOptions) -> Pace:  # noqa: ARG002 - the promise names it
        return "newest"

    def open(self, options: HttpOptions, wanted: Wanted) -> Stream:
        return Asked(options, wanted)


plugin: Source = Http()
