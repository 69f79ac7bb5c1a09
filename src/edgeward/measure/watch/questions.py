"""Asks services for their numbers, all at once, and waits for none of them long.

By hand and not by http.client: that brings in TLS and mail, which cost a small device 15 MB for one GET.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_REQUEST = "GET /v2/models/stats HTTP/1.0\r\nHost: {}\r\nAccept: application/json\r\n\r\n"
_LIMIT_S = 0.8
_LONGEST_BYTES = 1 << 24


class Said(NamedTuple):
    """What a service answered at a moment of our clock; `stats` is None where it did not, for that reason."""

    at_s: float
    stats: dict[str, Any] | None
    reason: str = ""


def ask(urls: list[str], limit_s: float = _LIMIT_S) -> dict[str, Said]:
    """Each service's answer. They are asked first and heard together, so that one that hangs delays no other."""
    deadline = time.monotonic() + limit_s
    with contextlib.ExitStack() as stack:
        answers: dict[str, Said] = {}
        opened: dict[str, socket.socket] = {}
        for url in urls:
            try:
                opened[url] = stack.enter_context(_asked(url, limit_s))
            except (OSError, ValueError) as error:
                answers[url] = Said(time.monotonic(), None, _reason(error))
        return {**answers, **_heard(opened, deadline)}


def _asked(url: str, limit_s: float) -> socket.socket:
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host")
    connection = socket.create_connection((parts.hostname, parts.port or 80), timeout=limit_s)
    try:
        connection.sendall(_REQUEST.format(parts.netloc).encode("idna" if not parts.netloc.isascii() else "ascii"))
    except BaseException:
        connection.close()
        raise
    return connection


def _heard(opened: dict[str, socket.socket], deadline: float) -> dict[str, Said]:
    """What each says until it closes its connection, or until the time is over."""
    replies: dict[str, bytearray] = {url: bytearray() for url in opened}
    answers: dict[str, Said] = {}
    while waiting := {connection: url for url, connection in opened.items() if url not in answers}:
        ready = select.select(list(waiting), [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready:
            return {**{url: Said(time.monotonic(), None, "it does not answer") for url in opened}, **answers}
        for connection in ready:
            url = waiting[connection]
            try:
                part = connection.recv(1 << 16)
            except OSError as error:
                answers[url] = Said(time.monotonic(), None, _reason(error))
                continue
            replies[url] += part
            if not part or len(replies[url]) > _LONGEST_BYTES:
                answers[url] = read(bytes(replies[url]), time.monotonic())
    return answers


def read(reply: bytes, at_s: float) -> Said:
    """A whole HTTP reply as what it says."""
    head, _, body = reply.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    status = words[1].decode("ascii", "replace") if words[0].startswith(b"HTTP/") and len(words) > 1 else None
    if status is None:
        return Said(at_s, None, "what answers there speaks no HTTP" if reply else "it closed the connection")
    try:
        stats = json.loads(body)
    except ValueError:
        stats = None
    if status != "200" or not isinstance(stats, dict) or not {"model_stats", "server"} <= stats.keys():
        return Said(at_s, None, f"HTTP {status}: no edgeward service answers there")
    return Said(at_s, stats)


def _reason(error: Exception) -> str:
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "it does not answer"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
