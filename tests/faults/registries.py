"""Registries: Debian's own in a process, and one of ours that stands before it and does what registries do wrong."""

import http.client
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("docker-registry")
needs_registry = pytest.mark.skipif(
    PROGRAM is None, reason="docker-registry is missing: apt-get install docker-registry"
)
_SETTINGS = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
_LOGIN = """auth: {{htpasswd: {{realm: here, path: {file}}}}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def registry(folder: Path, login: str | None = None) -> Iterator[str]:
    """Its host and port; `login` is a line of htpasswd."""
    folder.mkdir(parents=True)
    port, settings = free_port(), folder / "settings.yml"
    text = _SETTINGS.format(folder=folder / "data", port=port)
    if login is not None:
        (folder / "htpasswd").write_text(login + "\n")
        text += _LOGIN.format(file=folder / "htpasswd")
    settings.write_text(text)
    assert PROGRAM is not None
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    process = subprocess.Popen([PROGRAM, "serve", settings], env=environment, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert process.poll() is None, "the registry did not start"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the registry does not listen")


class Reply:
    """What the real registry said, to be spoiled."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body
        self.cut: int | None = None
        self.endless = False


Spoil = Callable[["BaseHTTPRequestHandler", Reply], None]


class Between:
    """Passes everything on to `upstream`, and lets `spoil` change the replies. `seen` are the requests."""

    def __init__(self, upstream: str, spoil: Spoil) -> None:
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.spoil = spoil
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _pass_on(self) -> None:
                outer.seen.append((self.command, self.path, dict(self.headers)))
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                connection = http.client.HTTPConnection(upstream, timeout=30)
                kept = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                connection.request(self.command, self.path, body, {**kept, "Host": self.headers["Host"]})
                got = connection.getresponse()
                reply = Reply(got.status, dict(got.getheaders()), got.read())
                connection.close()
                outer.spoil(self, reply)
                self._tell(reply)

            def _tell(self, reply: Reply) -> None:
                self.send_response(reply.status)
                reply.headers.pop("Transfer-Encoding", None)
                if not reply.endless and self.command != "HEAD":
                    reply.headers["Content-Length"] = str(len(reply.body))
                if reply.endless:
                    reply.headers.pop("Content-Length", None)
                    reply.headers["Connection"] = "close"
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "HEAD":
                    return
                self.wfile.write(reply.body if reply.cut is None else reply.body[: reply.cut])
                if reply.endless:
                    try:
                        while True:
                            self.wfile.write(bytes(1 << 16))
                    except OSError:
                        pass
                if reply.cut is not None or reply.endless:
                    self.close_connection = True

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = _pass_on  # noqa: N815 - the server's names

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "Between":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
