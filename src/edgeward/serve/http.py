"""The inference service over HTTP: Open Inference Protocol v2, /metrics, and a live page at /."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec

from edgeward import __version__
from edgeward.kit.clock import Clock, SystemClock
from edgeward.kit.errors import EdgewardError
from edgeward.measure.conditions import temperature_c
from edgeward.serve import exposition, protocol
from edgeward.serve.catalog import Catalog
from edgeward.serve.connection import Answer, Asked
from edgeward.serve.frames import Frames
from edgeward.serve.intake import Clients, Limits, Refusal, refusal_of
from edgeward.serve.models import ServedModel
from edgeward.serve.protocol import Request
from edgeward.serve.running import Ran
from edgeward.serve.stats import Spent, summary
from edgeward.serve.workers import returned, settle

_JSON = b"content-type: application/json\r\n"
_BINARY = b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n"
_HTML = (
    b"content-type: text/html; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"content-security-policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    b"connect-src 'self'; img-src 'self'\r\n"
)
_CLIENT_LEFT = 499  # as nginx counts a client that went away before it was answered

SERVER = {
    "name": "edgeward",
    "version": __version__,
    "extensions": ["binary_tensor_data", "classification", "statistics"],
}


class ModelRepository(Protocol):
    """What programs here may change."""

    def index(self) -> list[dict[str, Any]]: ...
    async def load(self, name: str) -> None: ...
    async def unload(self, name: str) -> None: ...


_Page = Callable[[Asked], Answer]


class Application:
    """Answers requests for `models`. `ready` is what health checks are told; the server clears it before it stops."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        limits: Limits,
        clock: Clock,
        repository: ModelRepository | None = None,
        frames: Frames | None = None,
    ) -> None:
        self.catalog = Catalog(models)
        self.limits = limits
        self.clients = Clients(limits)
        self.ready = True
        self._repository = repository
        self.frames = frames
        self._clock = clock
        self._started_s = clock.monotonic_s()
        self._html = (Path(__file__).parent / "page.html").read_bytes()
        self._infer: dict[bytes, ServedModel] = {}
        self._pages: dict[str, _Page] = {}
        self.put(models)

    @property
    def models(self) -> tuple[ServedModel, ...]:
        return self.catalog.models

    def put(self, models: Sequence[ServedModel]) -> None:
        """From now on these are served; requests that have begun end with the model that they began with."""
        self.catalog.put(models)
        places = self.catalog.places
        self._infer = {f"{place}/infer".encode(): model for place, model in places.items()}
        self._pages = self._make_pages(places)

    # --- what a connection asks

    def opened(self, asked: Asked) -> Answer | None:
        """Knows by its head where a request goes, and refuses the one that need not be read."""
        if asked.method == b"POST":
            model = self._infer.get(asked.url) or self._infer.get(_path(asked.url).encode())
            if model is not None:
                asked.model = model
                model.stats.in_flight += 1
                return self._refusal_by(self._check_head, asked)
        return self._refusal_by(self._check_length, asked)

    def hold(self, asked: Asked, size: int) -> Answer | None:
        return self._refusal_by(partial(self.clients.hold, asked, size), asked)

    def answer(self, asked: Asked) -> Answer | Awaitable[Answer]:
        if asked.model is not None:
            return self._answer_inference(asked, asked.model)
        try:
            if asked.url.startswith(b"/v2/repository/"):
                return self._repository_asked(asked)
            return self._answer_page(asked)
        except Refusal as refusal:
            return refused(refusal)

    def closed(self, asked: Asked) -> None:
        self.clients.release(asked)
        if asked.model is not None:
            asked.model.stats.in_flight -= 1
            asked.model.stats.ended(asked.status or _CLIENT_LEFT)

    def _refusal_by(self, check: Callable[[Asked], None], asked: Asked) -> Answer | None:
        try:
            check(asked)
        except Refusal as refusal:
            asked.status = refusal.status
            return refused(refusal)
        return None

    def _check_head(self, asked: Asked) -> None:
        encoding = asked.headers.get(b"content-encoding", b"").lower()
        if encoding not in (b"", b"identity"):
            raise Refusal(415, f"the body is encoded as {encoding[:40].decode('latin-1')!r}; send it as it is")
        size = asked.headers.get(b"inference-header-content-length")
        if size is not None and (not size.isdigit() or len(size) > 18):
            told = size[:40].decode("latin-1")
            raise Refusal(400, f"Inference-Header-Content-Length is a number of bytes, got {told!r}")
        self._check_length(asked)
        self.clients.enter(asked)

    def _check_length(self, asked: Asked) -> None:
        length = asked.headers.get(b"content-length")
        if length is not None:
            self.clients.check_length(int(length))

    # --- inference

    def _answer_inference(self, asked: Asked, model: ServedModel) -> Answer | Awaitable[Answer]:
        """Short work is answered at once; other work when the model's thread has done it."""
        start = perf_counter()
        try:
            model.make_room(self.limits.waiting)
            request = _request(asked, model)
            if request.images:
                return self._answer_pictures(asked, model, request)
            pre_s = perf_counter() - start
            ran = model.at_once(request.tensors, request.samples, asked.client)
            if ran is not None:
                return self._answered(asked, model, request, ran, pre_s)
            later: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            told = partial(self._answer_later, later, asked, model, request, pre_s)
            deadline_s = self.limits.deadline_s(asked.began, request.timeout_us)
            model.begin(told, request.tensors, request.samples, deadline_s, asked)
        except Exception as error:  # noqa: BLE001 - a client gets a sentence, whatever it was
            return self._failed(asked, model, error)
        return later

    async def _answer_pictures(self, asked: Asked, model: ServedModel, request: Request) -> Answer:
        start = perf_counter()
        try:
            tensors = await model.decoded(request.images, self.limits.request_bytes)
            decoded_s = perf_counter() - start
            deadline_s = self.limits.deadline_s(asked.began, request.timeout_us)
            ran = await model.answer(tensors, request.samples, deadline_s)
            return self._answered(asked, model, request._replace(tensors=tensors), ran, decoded_s)
        except Exception as error:  # noqa: BLE001 - a client gets a sentence, whatever it was
            return self._failed(asked, model, error)

    def _answer_later(
        self,
        later: asyncio.Future[Answer],
        asked: Asked,
        model: ServedModel,
        request: Request,
        pre_s: float,
        ran: Ran | BaseException,
    ) -> None:
        try:
            answer = self._answered(asked, model, request, returned(ran), pre_s)
        except BaseException as error:  # noqa: BLE001 - the same
            answer = self._failed(asked, model, error)
        settle(later, answer)

    def _answered(self, asked: Asked, model: ServedModel, request: Request, ran: Ran, pre_s: float) -> Answer:
        answered = perf_counter()
        reply = protocol.encode(request, ran.outputs, model.signature, model.name, model.version)
        done = perf_counter()
        spent = Spent(pre_s + ran.pre_s, ran.infer_s, done - answered + ran.post_s, done - asked.began)
        model.stats.answered(spent, request.samples)
        if self.frames is not None:
            self.frames.saw(model, request, ran)
        asked.status = 200
        return Answer(200, _JSON if reply.json_bytes is None else _BINARY % reply.json_bytes, reply.body)

    def _failed(self, asked: Asked, model: ServedModel, error: BaseException) -> Answer:
        refusal = refusal_of(error, model)
        asked.status = refusal.status
        return refused(refusal)

    # --- the repository: POST, from this machine

    def _repository_asked(self, asked: Asked) -> Answer | Awaitable[Answer]:
        path, repository = _path(asked.url), self._repository
        if repository is None:
            raise Refusal(403, "the repository API is off; start the server with --repository-api")
        if not is_loopback(asked.address) or b"origin" in asked.headers:
            raise Refusal(403, "the repository API is for programs on this machine")
        if asked.method != b"POST":
            raise Refusal(405, f"{path} takes POST, got {asked.method.decode('latin-1')}", allow="POST")
        match path.split("/")[3:]:
            case ["index"]:
                return _json(200, repository.index())
            case ["models", name, "load"]:
                return self._changed(repository.load(name))
            case ["models", name, "unload"]:
                return self._changed(repository.unload(name))
        raise Refusal(
            404, f"there is nothing at {path[:80]!r}; see /v2/repository/index and /v2/repository/models/NAME/load"
        )

    async def _changed(self, change: Coroutine[Any, Any, None]) -> Answer:
        try:
            await change
        except EdgewardError as error:
            return refused(Refusal(400, error.message))
        return _json(200, {})

    # --- everything else: GET

    def _answer_page(self, asked: Asked) -> Answer:
        path, method = _path(asked.url), asked.method.decode("latin-1")
        if path.encode() in self._infer:
            raise Refusal(405, f"{path} takes POST, got {method}", allow="POST")
        page = self._pages.get(path) or self._pages.get(path.rstrip("/"))
        if page is None:
            raise Refusal(404, self.catalog.unknown(path))
        if method not in ("GET", "HEAD"):
            raise Refusal(405, f"{path} takes GET, got {method}", allow="GET, HEAD")
        return page(asked)

    def _make_pages(self, places: Mapping[str, ServedModel]) -> dict[str, _Page]:
        pages: dict[str, _Page] = {
            "": lambda _: Answer(200, _HTML, self._html),
            "/": lambda _: Answer(200, _HTML, self._html),
            "/metrics": self._metrics,
            "/v2": lambda _: _json(200, SERVER),
            "/v2/health/live": lambda _: _json(200, {"live": True}),
            "/v2/health/ready": lambda _: _json(200 if self.ready else 503, {"ready": self.ready}),
        }
        for place, model in places.items():
            pages[place] = partial(self._metadata, model)
            pages[f"{place}/ready"] = partial(self._model_ready, model)
            pages[f"{place}/frame"] = partial(self._frame, model)
            pages[f"{place}/stats"] = partial(self._stats, (model,))
        pages["/v2/models/stats"] = partial(self._stats, self.models)
        return pages

    def _metrics(self, asked: Asked) -> Answer:
        openmetrics = b"application/openmetrics-text" in asked.headers.get(b"accept", b"")
        content_type, text = exposition.exposed(self.models, self.catalog.past.values(), openmetrics=openmetrics)
        return Answer(200, b"content-type: %b\r\n" % content_type.encode(), text.encode())

    def _metadata(self, model: ServedModel, _: Asked) -> Answer:
        return _json(200, self.catalog.about(model))

    def _model_ready(self, model: ServedModel, _: Asked) -> Answer:
        return _json(200 if self.ready else 503, {"name": model.name, "ready": self.ready})

    def _frame(self, model: ServedModel, _: Asked) -> Answer:
        if self.frames is None:
            raise Refusal(404, "pictures are not shown; start the server with --show-frames")
        picture = self.frames.jpeg(model)
        if picture is None:
            raise Refusal(404, f"model {model.name!r} has seen no picture yet")
        return Answer(200, b"content-type: image/jpeg\r\ncache-control: no-store\r\n", picture)

    def _stats(self, models: Sequence[ServedModel], _: Asked) -> Answer:
        uptime_s = round(self._clock.monotonic_s() - self._started_s, 1)
        rows = [{**_about(model), **summary(model.stats), "queued": model.queued} for model in models]
        if self.frames is not None:
            rows = [{**row, "frame": self.frames.told(model)} for row, model in zip(rows, models, strict=True)]
        now = {"uptime_s": uptime_s, "ready": self.ready, "temperature_c": temperature_c()}
        return _json(200, {"model_stats": rows, "server": {**SERVER, **now}})


def create_app(
    models: Sequence[ServedModel],
    limits: Limits,
    clock: Clock | None = None,
    *,
    repository: ModelRepository | None = None,
    frames: Frames | None = None,
) -> Application:
    """What serves `models`, lets programs here change them where there is a `repository`, and shows pictures where
    there are `frames`.

    Raises WrongInput for two of the same name and version.
    """
    return Application(models, limits, clock or SystemClock(), repository, frames)


def is_loopback(address: str) -> bool:
    return address == "::1" or address.removeprefix("::ffff:").startswith("127.")


def refused(refusal: Refusal) -> Answer:
    head = _JSON
    if refusal.retry_after_s:
        head += b"retry-after: %d\r\n" % refusal.retry_after_s
    if refusal.allow:
        head += b"allow: %b\r\n" % refusal.allow.encode()
    return Answer(refusal.status, head, msgspec.json.encode({"error": refusal.sentence}))


def _request(asked: Asked, model: ServedModel) -> Request:
    if asked.headers.get(b"content-type", b"").lower().startswith(b"image/"):
        return protocol.image_request(bytes(asked.body), model.signature)
    size = asked.headers.get(b"inference-header-content-length")
    return protocol.decode(asked.body, None if size is None else int(size), model.signature, model.plans)


def _path(url: bytes) -> str:
    """Of a request's target: without the host that a proxy's client names, and without a query."""
    text = url.decode("latin-1").partition("?")[0].partition("#")[0]
    if text[:7].lower() == "http://":
        text = "/" + text[7:].partition("/")[2]
    return unquote(text)


def _about(model: ServedModel) -> dict[str, Any]:
    how = {"runtime": model.facts.get("runtime"), "threads": model.threads, "placement": model.placement}
    return {"name": model.name, "version": model.version, **how}


def _json(status: int, document: Any) -> Answer:
    return Answer(status, _JSON, msgspec.json.encode(document))
