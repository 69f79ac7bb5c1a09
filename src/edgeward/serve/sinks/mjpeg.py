"""The newest picture with its boxes and labels in any browser, on this machine: a page, a stream, a single picture."""

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Condition, Thread
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from edgeward.kit.errors import EdgewardError, Failed, WrongInput, from_os_error
from edgeward.records.base import Document
from edgeward.serve.picture import jpeg_of
from edgeward.serve.sinks.base import Outlet, Result, Sink

_MOST_VIEWERS = 8
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>NAME</title><style>
body { margin: 0; background: #16191d; color: #e9ecef; font: 15px/1.5 system-ui, sans-serif }
main { max-width: 72rem; margin: auto; padding: 1rem } h1 { font-size: 1.1rem; font-weight: 600 }
img { width: 100%; max-height: 85vh; object-fit: contain; background: #0c0e10; border-radius: .4rem }
</style><main><h1>NAME</h1><img src="/stream" alt="The newest picture with what was found in it"></main></html>
"""


class MjpegOptions(Document):
    """`address` is HOST:PORT; on 127.0.0.1 only this machine sees it. There is no password: put a proxy in front of
    it where others can reach it."""

    address: str
    quality: Annotated[int, Meta(ge=1, le=95)] = 80


class Shown:
    """Pictures are drawn while somebody looks, and for nobody else."""

    def __init__(self, options: MjpegOptions, pipeline: str) -> None:
        host, _, port = options.address.rpartition(":")
        if not host or not port.isdigit():
            raise WrongInput(
                f"{options.address!r}: is no address to listen on; wanted HOST:PORT, such as 127.0.0.1:8090"
            )
        self.changed = Condition()
        self.name = pipeline
        self.closed = False
        self.result: Result | None = None
        self.viewers = BoundedSemaphore(_MOST_VIEWERS)
        self._quality = options.quality
        self._drawn: tuple[Result, bytes] | None = None
        handler = type("Handler", (_Handler,), {"shown": self})
        try:
            self._server = ThreadingHTTPServer((host.strip("[]"), int(port)), handler)
        except (OSError, OverflowError) as error:
            if isinstance(error, OverflowError):
                raise WrongInput(f"{options.address}: there is no port {port}") from error
            error.filename = options.address
            raise from_os_error(error) from error
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, name="edgeward-mjpeg", daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def write(self, result: Result) -> None:
        with self.changed:
            self.result = result
            self.changed.notify_all()

    def picture(self, result: Result) -> bytes:
        """Drawn once, however many look."""
        with self.changed:
            if self._drawn is None or self._drawn[0] is not result:
                self._drawn = (result, jpeg_of(result, self._quality))
            return self._drawn[1]

    def after(self, last: Result | None) -> Result | None:
        """The next result; None when there is none for a while, and at the end."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed or self.result is not last, 10)
            return None if self.closed or self.result is last else self.result

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    shown: ClassVar[Any]
    server_version = "edgeward"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        shown = self.shown
        match self.path.partition("?")[0]:
            case "/":
                self._send(_PAGE.replace("NAME", shown.name).encode(), "text/html; charset=utf-8")
            case "/stream":
                self._stream()
            case "/latest.jpg" | "/latest.json" if shown.result is None:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "there is no picture yet")
            case "/latest.jpg":
                try:
                    self._send(shown.picture(shown.result), "image/jpeg")
                except EdgewardError as error:
                    self.send_error(HTTPStatus.NOT_FOUND, error.message)
            case "/latest.json":
                self._send(shown.result.line, "application/json")
            case _:
                self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, data: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)

    def _stream(self) -> None:
        shown = self.shown
        if not shown.viewers.acquire(blocking=False):
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_VIEWERS} look already")
            return
        try:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
            self.end_headers()
            last: Result | None = None
            while not shown.closed:
                result = shown.after(last)
                if result is None:
                    continue
                last = result
                data = shown.picture(result)
                self.wfile.write(b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
                self.wfile.write(data + b"\r\n")
        except (OSError, EdgewardError):
            pass  # who looked has gone, or there is nothing to see
        finally:
            shown.viewers.release()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the pipeline's own words are what a person reads."""


class Mjpeg:
    options = MjpegOptions

    def open(self, options: MjpegOptions, pipeline: str) -> Outlet:
        try:
            return Shown(options, pipeline)
        except UnicodeError as error:
            raise Failed(f"{options.address}: {error}") from error


plugin: Sink = Mjpeg()
