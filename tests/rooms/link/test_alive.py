"""A container's health is what its server says of itself."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from edgeward.link.alive import is_ready


class Server(HTTPServer):
    status = 200


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert self.path == "/v2/health/ready"
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def test_ready_is_ready_not_ready_is_not_and_nobody_is_not(server: Server) -> None:
    port = server.server_address[1]
    assert is_ready(port)
    server.status = 503
    assert not is_ready(port)
    server.shutdown()
    server.server_close()
    assert not is_ready(port)
