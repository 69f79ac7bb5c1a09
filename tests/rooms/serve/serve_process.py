"""A real server process over small models, and ways to talk to it."""

import json
import socket
import subprocess
import sys
import tempfile
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        text: str = self.json["error"]
        return text


class RunningServer:
    """A server process of ours. `process` may be sent signals."""

    def __init__(self, waiting: int = 64, request_bytes: int = 1 << 20, grpc_port: int | None = None) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.socket = Path(self.folder.name) / "serve.sock"
        program = Path(__file__).with_name("serve_small_models.py")
        command = [sys.executable, str(program), str(waiting), str(request_bytes), str(self.socket)]
        command += [] if grpc_port is None else [str(grpc_port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.process.communicate()[1]
        self.address = ("127.0.0.1", int(self.url.rpartition(":")[2]))

    def ask(
        self, path: str, body: Any = None, *, method: str | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request by the standard library's client; a body that is no bytes is sent as JSON."""
        connection = HTTPConnection(*self.address, timeout=60)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        connection.request(method or ("GET" if body is None else "POST"), path, data, headers or {})
        answer = read(connection.getresponse())
        connection.close()
        return answer

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=60)

    def say(self, data: bytes) -> Answer:
        """Raw bytes on a new connection, and what comes back."""
        with self.connect() as connection:
            connection.sendall(data)
            return receive(connection)

    def memory_bytes(self) -> int:
        """The most memory it ever held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def stop(self) -> tuple[int, str]:
        """Its exit code after SIGTERM, and what it said on standard error."""
        self.process.terminate()
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


def read(response: HTTPResponse) -> Answer:
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def receive(connection: socket.socket, method: str = "POST") -> Answer:
    response = HTTPResponse(connection, method=method)
    response.begin()
    return read(response)
