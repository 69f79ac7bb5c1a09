"""The inference service as an ASGI application: Open Inference Protocol v2, /metrics, and a live page at /."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from edgeward import __version__
from edgeward.kit.clock import Clock, SystemClock
from edgeward.kit.errors import WrongInput
from edgeward.serve import protocol
from edgeward.serve.intake import Limits, Refusal, refusal_of
from edgeward.serve.models import ServedModel
from edgeward.serve.protocol import Port
from edgeward.serve.stats import Collector, Spent, summary

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_CLOSE = (b"connection", b"close")
_HTML: Headers = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
    ),
]
_CLIENT_LEFT = 499  # as nginx counts a client that went away before it was answered
_LINGER_S = 10.0


class _Answer(NamedTuple):
    status: int
    headers: Headers
    body: bytes


class _ClientLeft(Exception):
    """The connection ended before the request did; nobody waits for an answer."""


_Page = Callable[[Scope], _Answer]


class Application:
    """Answers requests for `models`. `ready` is what health checks are told; the server clears it before it stops."""

    def __init__(self, models: Sequence[ServedModel], limits: Limits, clock: Clock) -> None:
        self.models = tuple(models)
        self.ready = True
        self._limits = limits
        self._clock = clock
        self._started_s = clock.monotonic_s()
        self._held_bytes = 0
        self._registry = CollectorRegistry()
        self._registry.register(Collector(self.models))
        ProcessCollector(registry=self._registry)
        self._html = (Path(__file__).parent / "page.html").read_bytes()
        places = _places(self.models)
        self._infer = {f"{place}/infer": model for place, model in places.items()}
        self._pages = self._make_pages(places)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        model = self._infer.get(scope["path"])
        if model is not None and scope["method"] == "POST":
            await self._answer_inference(model, scope["headers"], receive, send)
            return
        try:
            answer = self._answer_page(scope)
        except Refusal as refusal:
            answer = _refused(refusal)
        await _reply(send, answer)

    # --- inference

    async def _answer_inference(self, model: ServedModel, headers: Headers, receive: Receive, send: Send) -> None:
        """Every way a request for inference can go: one reply and one count for each."""
        model.stats.in_flight += 1
        unread = False
        try:
            answer = await self._infer_one(model, headers, receive)
        except _ClientLeft:
            model.stats.ended(_CLIENT_LEFT)
            return
        except Exception as error:  # noqa: BLE001 - the one broad catch of the service: a client gets a sentence
            refusal = refusal_of(error, model)
            answer, unread = _refused(refusal), refusal.unread
        finally:
            model.stats.in_flight -= 1
        model.stats.ended(answer.status)
        await (_reply_and_drain(receive, send, answer) if unread else _reply(send, answer))

    async def _infer_one(self, model: ServedModel, headers: Headers, receive: Receive) -> _Answer:
        began = perf_counter()
        length, json_bytes = _asked(headers)
        if length is not None and length > self._limits.request_bytes:
            raise self._too_large(f"{length} bytes")
        held = _Held(self)
        try:
            body = await _read(receive, held)
            start = perf_counter()
            model.make_room(self._limits.waiting)
            request = protocol.decode(body, json_bytes, model.signature)
            decoded = perf_counter()
            ran = await model.answer(request.tensors, request.samples)
            answered = perf_counter()
            reply = protocol.encode(request, ran.outputs, model.signature, model.name, model.version)
        finally:
            self._held_bytes -= held.bytes
        done = perf_counter()
        pre_s, post_s = decoded - start + ran.pre_s, done - answered + ran.post_s
        model.stats.answered(Spent(pre_s, ran.infer_s, post_s, done - began), request.samples)
        return _inferred(reply)

    def find(self, name: str, version: str) -> ServedModel:
        """The model of this name, the newest where `version` is empty. Raises Refusal where there is none."""
        path = f"/v2/models/{name}/versions/{version}" if version else f"/v2/models/{name}"
        model = self._infer.get(f"{path}/infer")
        if model is None:
            raise Refusal(404, _unknown(path, self.models))
        return model

    def about(self, model: ServedModel) -> dict[str, Any]:
        """What goes in and out of it."""
        return {
            "name": model.name,
            "versions": [other.version for other in self.models if other.name == model.name],
            "platform": model.platform,
            "inputs": [_described(port) for port in model.signature.inputs.values()],
            "outputs": [_described(port) for port in model.signature.outputs.values()],
        }

    def hold(self, size: int, held: int) -> None:
        """Counts `size` more bytes of a body that now has `held`. Raises Refusal where either limit is passed."""
        self._held_bytes += size
        if held > self._limits.request_bytes:
            raise self._too_large(f"more than {self._limits.request_bytes} bytes")
        if self._held_bytes > self._limits.held_bytes:
            sentence = f"the server holds {self._held_bytes} bytes of requests already; try again in 1 s"
            raise Refusal(503, sentence, retry_after_s=1, unread=True)

    def _too_large(self, size: str) -> Refusal:
        limit = self._limits.request_bytes
        return Refusal(413, f"the body has {size}; this server takes {limit} (--max-request-bytes)", unread=True)

    # --- everything else: GET

    def _answer_page(self, scope: Scope) -> _Answer:
        path, method = scope["path"], scope["method"]
        if path in self._infer:
            raise Refusal(405, f"{path} takes POST, got {method}", allow="POST")
        page = self._pages.get(path) or self._pages.get(path.rstrip("/"))
        if page is None:
            raise Refusal(404, _unknown(path, self.models))
        if method not in ("GET", "HEAD"):
            raise Refusal(405, f"{path} takes GET, got {method}", allow="GET, HEAD")
        return page(scope)

    def _make_pages(self, places: Mapping[str, ServedModel]) -> dict[str, _Page]:
        pages: dict[str, _Page] = {
            "": lambda _: _Answer(200, _HTML, self._html),
            "/": lambda _: _Answer(200, _HTML, self._html),
            "/metrics": self._metrics,
            "/v2": lambda _: _json(200, _SERVER),
            "/v2/health/live": lambda _: _json(200, {"live": True}),
            "/v2/health/ready": lambda _: _json(200 if self.ready else 503, {"ready": self.ready}),
        }
        for place, model in places.items():
            pages[place] = partial(self._metadata, model)
            pages[f"{place}/ready"] = partial(self._model_ready, model)
            pages[f"{place}/stats"] = partial(self._stats, (model,))
        pages["/v2/models/stats"] = partial(self._stats, self.models)
        return pages

    def _metrics(self, scope: Scope) -> _Answer:
        accept = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), "")
        encode, content_type = choose_encoder(accept)
        return _Answer(200, [(b"content-type", content_type.encode())], encode(self._registry))

    def _metadata(self, model: ServedModel, _: Scope) -> _Answer:
        return _json(200, self.about(model))

    def _model_ready(self, model: ServedModel, _: Scope) -> _Answer:
        return _json(200 if self.ready else 503, {"name": model.name, "ready": self.ready})

    def _stats(self, models: Sequence[ServedModel], _: Scope) -> _Answer:
        uptime_s = round(self._clock.monotonic_s() - self._started_s, 1)
        rows = [{**_about(model), **summary(model.stats), "queued": model.queued} for model in models]
        return _json(200, {"model_stats": rows, "server": {**_SERVER, "uptime_s": uptime_s, "ready": self.ready}})


def create_app(models: Sequence[ServedModel], limits: Limits, clock: Clock | None = None) -> Application:
    """The ASGI application that serves `models`. Raises WrongInput for two of the same name and version."""
    check_names((model.name, model.version) for model in models)
    return Application(models, limits, clock or SystemClock())


def check_names(names: Iterable[tuple[str, str]]) -> None:
    """Raises WrongInput where a name and version comes twice."""
    seen = set()
    for name, version in names:
        if (name, version) in seen:
            raise WrongInput(f"{name} {version} is given twice; clients could not tell the two apart")
        seen.add((name, version))


_SERVER = {
    "name": "edgeward",
    "version": __version__,
    "extensions": ["binary_tensor_data", "classification", "statistics"],
}


class _Held:
    """How many bytes of one request's body the service holds."""

    __slots__ = ("_app", "bytes")

    def __init__(self, app: Application) -> None:
        self._app = app
        self.bytes = 0

    def add(self, size: int) -> None:
        self.bytes += size
        self._app.hold(size, self.bytes)


async def _read(receive: Receive, held: _Held) -> bytes | bytearray:
    """The whole body; one that came in one piece is not copied."""
    message = await receive()
    body: bytes = _part(message, held)
    if not message["more_body"]:
        return body
    whole = bytearray(body)
    while message["more_body"]:
        message = await receive()
        whole += _part(message, held)
    return whole


def _part(message: Mapping[str, Any], held: _Held) -> bytes:
    if message["type"] == "http.disconnect":
        raise _ClientLeft
    part: bytes = message["body"]
    held.add(len(part))
    return part


def _asked(headers: Headers) -> tuple[int | None, int | None]:
    """The body's length and the length of its JSON part, where the headers tell them."""
    length = json_bytes = None
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        elif name == b"inference-header-content-length":
            if not value.isdigit() or len(value) > 18:
                sentence = f"Inference-Header-Content-Length is a number of bytes, got {value[:40].decode('latin-1')!r}"
                raise Refusal(400, sentence, unread=True)
            json_bytes = int(value)
        elif name == b"content-encoding" and value.lower() not in (b"identity", b""):
            sentence = f"the body is encoded as {value[:40].decode('latin-1')!r}; send it as it is"
            raise Refusal(415, sentence, unread=True)
    return length, json_bytes


def _places(models: Iterable[ServedModel]) -> dict[str, ServedModel]:
    """Where each model is found: under its version, and the newest of a name also without one."""
    places = {}
    for model in sorted(models, key=lambda model: _age(model.version)):
        places[f"/v2/models/{model.name}"] = model
        places[f"/v2/models/{model.name}/versions/{model.version}"] = model
    return places


def _age(version: str) -> tuple[Any, ...]:
    """Orders versions as people do: 1.9 before 1.10, and 2.0-rc1 before 2.0."""
    main, _, early = version.partition("-")
    return _pieces(main), not early, _pieces(early)


def _pieces(text: str) -> list[tuple[int, int, str]]:
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.findall(r"[0-9]+|[^0-9.]+", text)]


def _unknown(path: str, models: Sequence[ServedModel]) -> str:
    served = ", ".join(f"{model.name} {model.version}" for model in models) or "no model"
    match path.split("/")[1:]:
        case ["v2", "models", name, *_] if name and not any(model.name == name for model in models):
            return f"there is no model {name[:80]!r}; this server has {served}"
        case ["v2", "models", name, "versions", version, *_] if not any(
            (model.name, model.version) == (name, version) for model in models
        ):
            return f"model {name!r} has no version {version[:80]!r}; this server has {served}"
        case _:
            return f"there is nothing at {path[:80]!r}; see /v2, /v2/models/NAME, /metrics and /"


def _about(model: ServedModel) -> dict[str, Any]:
    how = {"runtime": model.facts.get("runtime"), "threads": model.threads, "placement": model.placement}
    return {"name": model.name, "version": model.version, **how}


def _described(port: Port) -> dict[str, Any]:
    return {"name": port.name, "datatype": port.datatype, "shape": port.shape}


def _inferred(reply: protocol.Reply) -> _Answer:
    if reply.json_bytes is None:
        return _Answer(200, [_JSON], reply.body)
    return _Answer(200, [_BINARY, (b"inference-header-content-length", b"%d" % reply.json_bytes)], reply.body)


def _json(status: int, document: Any) -> _Answer:
    return _Answer(status, [_JSON], msgspec.json.encode(document))


def _refused(refusal: Refusal) -> _Answer:
    headers = [_JSON]
    if refusal.retry_after_s:
        headers.append((b"retry-after", b"%d" % refusal.retry_after_s))
    if refusal.allow:
        headers.append((b"allow", refusal.allow.encode()))
    return _Answer(refusal.status, headers, msgspec.json.encode({"error": refusal.sentence}))


async def _reply(send: Send, answer: _Answer) -> None:
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _reply_and_drain(receive: Receive, send: Send, answer: _Answer) -> None:
    """Replies at once, then reads and drops what the client still sends: closing with bytes unread would reset the
    connection, and a client that sends all before it reads would never see the reply."""
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body)), _CLOSE]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while (await receive()).get("more_body"):
                pass
    await send({"type": "http.response.body", "body": b""})
