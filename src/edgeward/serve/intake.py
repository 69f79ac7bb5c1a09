"""What every way in has in common: what clients may ask for at most, and what they are told instead of an answer."""

from collections.abc import Iterable
from math import inf, prod
from typing import Protocol

import msgspec

from edgeward.kit import log
from edgeward.kit.errors import EdgewardError, WrongInput
from edgeward.serve.models import Busy, ServedModel
from edgeward.serve.running import Late

MIB = 1 << 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What clients may ask for at most. `held_bytes` is of all request bodies in memory together.

    `client_requests` and `client_bytes` are of one address, 0 where it has no limit of its own.
    """

    request_bytes: int = 64 * MIB
    waiting: int = 64
    timeout_s: float = inf
    client_requests: int = 0
    client_bytes: int = 0

    @property
    def held_bytes(self) -> int:
        return 4 * self.request_bytes

    def deadline_s(self, began: float, timeout_us: int) -> float:
        """The moment after which a request that arrived at `began` is not run any more."""
        return began + min(self.timeout_s, timeout_us / 1e6 if timeout_us else inf)


def enough_request_bytes(models: Iterable[ServedModel]) -> int:
    """64 MiB, or more where 4 samples of a model written as JSON (about 12 bytes a number) need more."""
    largest = max((_numbers(model) for model in models), default=0)
    return max(64 * MIB, 48 * largest)


def _numbers(model: ServedModel) -> int:
    return sum(prod(dim for dim in port.shape if dim > 0) for port in model.signature.inputs.values())


class Refusal(Exception):
    """Ends a request with a status, as HTTP has them, and one sentence. `unread`: its body was not read to the end."""

    def __init__(
        self, status: int, sentence: str, *, retry_after_s: int = 0, allow: str = "", unread: bool = False
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after_s = retry_after_s
        self.allow = allow
        self.unread = unread


class Holder(Protocol):
    """A request: where it came from, and how many bytes of it are held."""

    address: str
    held: int
    entered: bool


class Clients:
    """What each client has under way, and all of them together."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held_bytes = 0
        self._under_way: dict[str, list[int]] = {}  # by address: requests and bytes

    def enter(self, one: Holder) -> None:
        """Counts a request. Raises Refusal where its client has as many under way as it may."""
        mine = self._under_way.setdefault(one.address, [0, 0])
        mine[0] += 1
        one.entered = True
        most = self._limits.client_requests
        if most and mine[0] > most:
            raise Refusal(503, f"{most} requests of {one.address} are under way already", retry_after_s=1, unread=True)

    def check_length(self, size: int) -> None:
        if size > self._limits.request_bytes:
            raise self._too_large(f"{size} bytes")

    def hold(self, one: Holder, size: int, *_: object) -> None:
        """Counts `size` more bytes of a body. Raises Refusal where a limit is passed."""
        limits = self._limits
        one.held += size
        self._held_bytes += size
        if one.held > limits.request_bytes:
            raise self._too_large(f"more than {limits.request_bytes} bytes")
        if self._held_bytes > limits.held_bytes:
            sentence = f"the server holds {self._held_bytes} bytes of requests already; try again in 1 s"
            raise Refusal(503, sentence, retry_after_s=1, unread=True)
        if one.entered:
            mine = self._under_way[one.address]
            mine[1] += size
            if limits.client_bytes and mine[1] > limits.client_bytes:
                sentence = (
                    f"the requests of {one.address} hold {mine[1]} bytes already; it may have {limits.client_bytes}"
                )
                raise Refusal(503, sentence, retry_after_s=1, unread=True)

    def release(self, one: Holder) -> None:
        """The request has ended, in whatever way."""
        self._held_bytes -= one.held
        if one.entered:
            one.entered = False
            mine = self._under_way[one.address]
            mine[0] -= 1
            mine[1] -= one.held
            if not mine[0]:
                del self._under_way[one.address]
        one.held = 0

    def _too_large(self, size: str) -> Refusal:
        limit = self._limits.request_bytes
        return Refusal(413, f"the body has {size}; this server takes {limit} (--max-request-bytes)", unread=True)


def refusal_of(error: BaseException, model: ServedModel) -> Refusal:
    """What a client is told where `model` did not answer; a fault that is not the client's goes to the log too."""
    match error:
        case Refusal():
            return error
        case WrongInput():
            return Refusal(400, error.message)
        case Busy():
            return Refusal(503, f"model {model.name!r}: {error.message}", retry_after_s=error.retry_after_s)
        case Late():
            return Refusal(504, f"model {model.name!r}: {error.message}")
        case EdgewardError():
            log.warning("inference-failed", model=model.name, version=model.version, reason=error.message)
            return Refusal(500, error.message)
        case _:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            log.warning("inference-failed", model=model.name, version=model.version, reason=reason)
            return Refusal(500, f"model {model.name!r} failed on this request; the server's log says why")
