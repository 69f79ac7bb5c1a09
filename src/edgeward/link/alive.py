"""Asks a server of ours whether it is ready: exit code 0 when it is. For containers, which have no other program."""

import socket
import sys

_LIMIT_S = 5.0


def is_ready(port: int, host: str = "127.0.0.1") -> bool:
    """Whether every model there is ready. False also where nobody listens."""
    try:
        with socket.create_connection((host, port), _LIMIT_S) as connection:
            connection.settimeout(_LIMIT_S)
            connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            said = connection.recv(64)
    except OSError:
        return False
    return said.split(b" ", 2)[1:2] == [b"200"]


if __name__ == "__main__":
    sys.exit(0 if is_ready(int(sys.argv[1])) else 1)
