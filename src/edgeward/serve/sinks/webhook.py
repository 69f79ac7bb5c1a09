"""Results to a URL, each as a POST of its JSON; they wait while it does not answer, in bounds and in order."""

import random
from collections import deque
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import Annotated, Any

import urllib3
from msgspec import Meta
from urllib3.exceptions import HTTPError

from edgeward.kit.errors import Unavailable, WrongInput
from edgeward.kit.retry import delays
from edgeward.records.base import Document, Positive
from edgeward.serve.sinks.base import Outlet, Result, Sink
from edgeward.serve.spool import Spool

_END_S = 5.0
_LONGEST_S = 60.0
_NOBODY = -1.0
"""Where nothing answers at all, which at the end is not waited for."""
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


class WebhookOptions(Document):
    """Up to `keep` results wait; in the file `spool`, where one is named, also for the next start. A token in
    `token_file` is sent as a bearer token. It is not followed to other addresses."""

    url: str
    keep: Annotated[int, Meta(ge=1)] = 10_000
    spool: str | None = None
    limit_s: Positive = 5.0
    token_file: str | None = None
    ca_file: str | None = None


class Posted:
    def __init__(self, options: WebhookOptions) -> None:
        parts = _address(options.url)
        self._shown = parts._replace(auth=None, query=None, fragment=None).url
        self._url = parts._replace(auth=None).url
        self._headers = {"Content-Type": "application/json", **_authentication(parts.auth, options.token_file)}
        self._limit_s = options.limit_s
        self._keeps = options.spool is not None
        self._faults: deque[str] = deque(maxlen=100)
        self._spool = Spool(Path(options.spool) if options.spool else None, options.keep)
        self._dropped = 0
        self._pool = urllib3.PoolManager(retries=False, ca_certs=options.ca_file)
        self._more, self._closing = Event(), Event()
        self._until = float("inf")
        self._thread = Thread(target=self._send_all, name="edgeward-webhook", daemon=True)
        self._thread.start()

    def write(self, result: Result) -> None:
        self._spool.put(result.line.rstrip(b"\n"))
        self._more.set()
        if self._spool.dropped > self._dropped:
            self._dropped += 1
            raise Unavailable(f"{self._shown}: {len(self._spool)} results wait for it; the oldest was dropped")
        if self._faults:
            raise Unavailable(self._faults.popleft())

    def _send_all(self) -> None:
        waits = delays(random.random)
        while not (self._closing.is_set() and (not len(self._spool) or monotonic() > self._until)):
            self._more.clear()
            first = self._spool.first()
            if first is None:
                self._more.wait(1.0)
                continue
            wait_s = self._send(*first)
            if wait_s is None:
                waits = delays(random.random)
            elif not self._closing.is_set():
                self._closing.wait(min(_LONGEST_S, max(wait_s, next(waits))))
            elif wait_s < 0:
                return
            else:
                sleep(0.1)

    def _send(self, number: int, data: bytes) -> float | None:
        """None where it is done with; else how long it had better wait, or `_NOBODY`."""
        try:
            reply = self._pool.request(
                "POST", self._url, body=data, headers=self._headers, redirect=False, timeout=self._limit_s
            )
        except (HTTPError, OSError):
            return _NOBODY
        if reply.status in _LATER:
            said = reply.headers.get("Retry-After", "")
            return float(said) if said.isdigit() else 0.0
        self._spool.remove(number)
        if reply.status // 100 != 2:
            self._faults.append(f"{self._shown}: answers {reply.status}: that result is given up")
        return None

    def close(self) -> None:
        """Sends what waits, for a few seconds at most. What is left stays in the spool, or is lost with the memory."""
        self._until = monotonic() + _END_S
        self._closing.set()
        self._more.set()
        self._thread.join(_END_S + self._limit_s + 1)
        left, faults = len(self._spool), len(self._faults)
        self._spool.close()
        if left and not self._keeps:
            raise Unavailable(
                f"{self._shown}: {left} results could not be sent before the end; a spool would keep them"
            )
        if faults:
            raise Unavailable(self._faults.popleft())


def _address(url: str) -> Any:
    try:
        parts = urllib3.util.parse_url(url)
    except HTTPError as error:
        raise WrongInput(f"{url.rpartition('@')[2]!r}: is no address") from error
    if parts.scheme not in ("http", "https") or not parts.host:
        raise WrongInput(f"{url.rpartition('@')[2]!r}: is no address; wanted https://HOST/PATH")
    return parts


def _authentication(user: str | None, token_file: str | None) -> dict[str, str]:
    if token_file is not None:
        return {"Authorization": f"Bearer {Path(token_file).read_text().strip()}"}
    return {"Authorization": urllib3.make_headers(basic_auth=user)["authorization"]} if user else {}


class Webhook:
    options = WebhookOptions

    def open(self, options: WebhookOptions, pipeline: str) -> Outlet:  # noqa: ARG002 - the promise names it
        return Posted(options)


plugin: Sink = Webhook()
