"""Bundles for the neighbours: a device answers others in its network for the blobs that it has, and for nothing else.

They name it as a mirror. It speaks the part of the OCI distribution protocol that they ask of one: blobs by digest,
also from the middle on. Who asks checks every byte by its digest, so that nobody need trust it.
"""

import contextlib
import re
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from edgeward.bundle.store import NearBlobs, Store

_PATH = re.compile(r"/v2/[A-Za-z0-9._/-]+/blobs/(sha256:[0-9a-f]{64})")
_RANGE = re.compile(r"bytes=(\d+)-")
_AT_ONCE = 4
"""A gateway has its own work; the others ask elsewhere."""
_TIMEOUT_S = 30.0


class _Handler(BaseHTTPRequestHandler):
    server: "Sharing"
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        if self.server.turns.acquire(blocking=False):
            try:
                self._answer(with_body=True)
            finally:
                self.server.turns.release()
        else:
            self._say(503, {"Retry-After": "5"})

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if self.path in ("/v2", "/v2/"):
            self._say(200, {})
            return
        asked = _PATH.fullmatch(self.path)
        place = self.server.blobs.find(asked[1]) if asked else None
        if place is None:
            self._say(404, {})
            return
        try:
            file = place.open("rb")
        except OSError:  # it was pruned in this moment
            self._say(404, {})
            return
        with file:
            size = place.stat().st_size
            start = self._start(size)
            if start is None:
                self._say(416, {"Content-Range": f"bytes */{size}"})
                return
            more = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
            self._say(206 if start else 200, {"Content-Type": "application/octet-stream", **more}, size - start)
            if with_body:
                self.wfile.flush()
                with contextlib.suppress(OSError):  # who asked has gone
                    self.connection.sendfile(file, start)

    def _start(self, size: int) -> int | None:
        """Where it is to begin; None beyond the end."""
        said = self.headers.get("Range")
        found = _RANGE.fullmatch(said) if said else None
        start = int(found[1]) if found else 0
        return start if start < max(size, 1) else None

    def _say(self, status: int, headers: dict[str, str], length: int = 0) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        sys.stderr.write(f"{self.address_string()} {format % args}\n")


class Sharing(ThreadingHTTPServer):
    """Serves the blobs of a store, and closes when told so."""

    daemon_threads = True

    def __init__(self, store: Store, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.blobs: NearBlobs = store.blobs()
        self.turns = BoundedSemaphore(_AT_ONCE)
        super().__init__((host, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A neighbour who went away is no fault of ours."""


def share(store: Path, host: str, port: int) -> None:
    """Until the process is ended."""
    with Sharing(Store(store), host, port) as sharing:
        sys.stdout.write(f"shares {store} at http://{host}:{sharing.server_port}\n")
        sys.stdout.flush()
        sharing.serve_forever()
