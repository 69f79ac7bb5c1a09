"""Measures on a device over the user's own ssh; nothing need be installed there but Python."""

import base64
import hashlib
import json
import re
import shlex
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeward.kit import errors
from edgeward.kit.errors import Failed, Unavailable
from edgeward.kit.process import Partner
from edgeward.measure import runner
from edgeward.measure.jobs import (
    Answered,
    AnswersJob,
    Contender,
    ErrorTold,
    PlacedJob,
    PlacedResult,
    Raced,
    RaceJob,
    Solo,
    SoloResult,
    unpacked,
)

_Result = TypeVar("_Result", SoloResult, Raced, Answered)
_PUT_LIMIT_S = 600
_SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5")
_HOST = re.compile(r"(?P<host>(?:[\w.-]+@)?[\w][\w.-]*|(?:[\w.-]+@)?\[[0-9a-fA-F:]+\])(?::(?P<port>\d{1,5}))?")


class RemotePlace:
    """A device, for as long as the `with` lasts: one connection, and one folder there that goes with it.

    Raises Unavailable where it cannot be reached or the connection is lost, Unsupported where it cannot run models.
    """

    def __init__(self, host: str, *, options: Sequence[str] = ()) -> None:
        self.host = host
        self._partner = Partner(ssh_command(host, options))
        self._pushed: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self.device = msgspec.convert(self._ask({"do": "hello"}), runner.Device)
            self._runner = self._installed()
        except BaseException:
            self._partner.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends the connection; the keeper there then removes its folder."""
        self._partner.__exit__(kind, error, at)

    def measure_alone(self, contender: Contender, *, seconds: float = 0.2) -> SoloResult:
        return self._result(Solo(self._placed(contender), seconds), SoloResult, limit_s=300)

    def race(self, contenders: Sequence[Contender], *, seconds: float, seed: int) -> list[NDArray[np.float64]]:
        job = RaceJob(tuple(self._placed(contender) for contender in contenders), seconds, seed)
        return list(unpacked(self._result(job, Raced, limit_s=600 + 10 * seconds).times_ms).values())

    def answers(self, contender: Contender) -> list[list[NDArray[Any]]]:
        answered = self._result(AnswersJob(self._placed(contender)), Answered, limit_s=3600)
        return [list(unpacked(outputs).values()) for outputs in answered.outputs]

    def _placed(self, contender: Contender) -> Contender:
        """The contender with its files there."""
        file, feeds = (self._put(Path(path).read_bytes()) for path in (contender.file, contender.feeds))
        return replace(contender, file=file, feeds=feeds)

    def _put(self, data: bytes) -> str:
        """The path of these bytes there; what was sent once is not sent again."""
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._pushed:
            answer = self._ask({"do": "put", "digest": digest}, data, limit_s=_PUT_LIMIT_S)
            self._pushed[digest] = answer["path"]
        return self._pushed[digest]

    def _installed(self) -> str:
        """The folder there that holds our rooms and the runtimes; pushed where it is not there yet."""
        archives = runner.archives(self.device)
        digests = [hashlib.sha256(data).hexdigest() for data in archives]
        key = hashlib.sha256("".join(digests).encode()).hexdigest()
        place = self._ask({"do": "has", "key": key})["path"]
        if place is None:
            for data in archives:
                self._put(data)
            place = self._ask({"do": "unpack", "key": key, "digests": digests}, limit_s=_PUT_LIMIT_S)["path"]
        return str(place)

    def _result(self, job: PlacedJob, wanted: type[_Result], *, limit_s: float) -> _Result:
        request = {"do": "run", "path": self._runner, "job": msgspec.json.encode(job).decode()}
        answer = self._ask(request, limit_s=limit_s)
        if answer["code"] != 0:
            complaint = answer["complaint"].strip().splitlines()
            raise Failed(f"{self.host}: it died there (exit code {answer['code']}) {''.join(complaint[-1:])}".strip())
        result: PlacedResult = msgspec.json.decode(answer["output"], type=PlacedResult)
        if isinstance(result, ErrorTold):
            raise getattr(errors, result.kind)(f"{self.host}: {result.message}", hint=result.hint)
        if not isinstance(result, wanted):
            raise Failed(f"{self.host} gave another answer than it was asked for")
        return result

    def _ask(self, request: dict[str, Any], data: bytes | None = None, *, limit_s: float = 60) -> dict[str, Any]:
        self._partner.tell(json.dumps(request).encode())
        if data is not None:
            self._partner.tell(data)
        try:
            answer: dict[str, Any] = json.loads(self._partner.hear(limit_s=limit_s))
        except Failed as error:
            raise self._lost(error.message) from None
        except ValueError:
            raise Unavailable(f"{self.host}: something there writes to the connection before Python does") from None
        if "error" in answer:
            raise Unavailable(f"{self.host}: {answer['error']}", hint=f"ssh {self.host} df -h /tmp")
        return answer

    def _lost(self, message: str) -> Unavailable:
        """What the end of the connection means."""
        if "exit code 127" in message:
            return Unavailable(f"{self.host}: there is no python3", hint="install Python 3.11 or newer there")
        reason = message.partition(") ")[2] or message
        return Unavailable(f"{self.host} cannot be reached: {reason}", hint=f"ssh -v {self.host}")


def is_host(text: str) -> bool:
    """Whether `text` can name a machine to ssh to."""
    return _HOST.fullmatch(text) is not None


def ssh_command(host: str, options: Sequence[str] = ()) -> list[str]:
    """The user's own ssh, running the keeper on `host` (user@host, user@host:port or an alias of its config)."""
    match = _HOST.fullmatch(host)
    if match is None:
        raise errors.WrongInput(f"{host!r} names no machine", hint="--target user@host, or user@host:22")
    port = ["-p", match["port"]] if match["port"] else []
    source = base64.b64encode(zlib.compress(Path(__file__).with_name("keeper.py").read_bytes())).decode()
    code = f"import base64,zlib;exec(zlib.decompress(base64.b64decode('{source}')))"
    return [
        *_SSH,
        *options,
        *port,
        "--",
        match["host"].replace("[", "").replace("]", ""),
        f"python3 -c {shlex.quote(code)}",
    ]
