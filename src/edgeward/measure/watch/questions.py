"""Asks services for their numbers, all at once, and waits for none of them long."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_PATH = "/v2/models/stats"
_LIMIT_S = 0.8
_LONGEST_BYTES = 1 << 24


class Said(NamedTuple):
    """What a service answered at a moment of our clock; `stats` is None where it did not, for that reason."""

    at_s: float
    stats: dict[str, Any] | None
    reason: str = ""


def ask(urls: list[str], limit_s: float = _LIMIT_S) -> dict[str, Said]:
    """Each service's answer. They are asked first and heard after, so that one that hangs delays no other."""
    deadline = time.monotonic() + limit_s
    opened: dict[str, http.client.HTTPConnection] = {}
    answers: dict[str, Said] = {}
    for url in urls:
        try:
            opened[url] = _asked(url, limit_s)
        except (OSError, ValueError, http.client.HTTPException) as error:
            answers[url] = Said(time.monotonic(), None, _reason(error))
    for url, connection in opened.items():
        answers[url] = _heard(connection, max(0.05, deadline - time.monotonic()))
    return answers


def _asked(url: str, limit_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host")
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=limit_s)
    try:
        connection.request("GET", _PATH, headers={"connection": "close"})
    except BaseException:
        connection.close()
        raise
    return connection


def _heard(connection: http.client.HTTPConnection, limit_s: float) -> Said:
    with contextlib.closing(connection):
        try:
            if connection.sock is not None:
                connection.sock.settimeout(limit_s)
            reply = connection.getresponse()
            stats = json.loads(reply.read(_LONGEST_BYTES))
        except (OSError, ValueError, http.client.HTTPException) as error:
            return Said(time.monotonic(), None, _reason(error))
    if reply.status != 200 or not isinstance(stats, dict) or "model_stats" not in stats or "server" not in stats:
        return Said(time.monotonic(), None, f"HTTP {reply.status}: no edgeward service answers there")
    return Said(time.monotonic(), stats)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return "it does not answer"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
