"""What every way in has in common: what clients may ask for at most, and what they are told instead of an answer."""

from collections.abc import Iterable
from math import prod

import msgspec

from edgeward.kit import log
from edgeward.kit.errors import EdgewardError, WrongInput
from edgeward.serve.models import Busy, Late, ServedModel

MIB = 1 << 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What clients may ask for at most. `held_bytes` is of all request bodies in memory together."""

    request_bytes: int = 64 * MIB
    waiting: int = 64

    @property
    def held_bytes(self) -> int:
        return 4 * self.request_bytes


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


def refusal_of(error: Exception, model: ServedModel) -> Refusal:
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
