"""Measures on a device over the user's own ssh; nothing need be installed there but Python."""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgeward.infer.runtimes.base import Tensors
from edgeward.kit import errors
from edgeward.kit.errors import EdgewardError, Failed, Unsupported
from edgeward.kit.process import Died, Partner
from edgeward.measure import jobs, runner, ssh
from edgeward.measure.bench import answer_of
from edgeward.measure.conditions import Conditions
from edgeward.measure.generations import Generation
from edgeward.measure.jobs import (
    ConditionsRead,
    Contender,
    Describe,
    Described,
    ErrorTold,
    Facts,
    MemoryRead,
    PlacedJob,
    PlacedResult,
    Raced,
    RaceJob,
    ReadConditions,
    ReadMemory,
    Solo,
    SoloResult,
    unpacked,
)
from edgeward.measure.place import PlaceLost
from edgeward.records.candidate import Timing
from edgeward.records.target import Machine

_Result = TypeVar("_Result", Described, ConditionsRead, MemoryRead, SoloResult, Raced, jobs.GenerationsRun)
_PUT_LIMIT_S = 600
_LOAD_LIMIT_S = 300
_JOB_LIMIT_S = 86_400
"""Jobs have limits of their own there, and ssh notices by itself when the device is gone."""
_KEEPER = Path(__file__).with_name("keeper.py")

Told = Callable[[str], None]
"""Called with what is going on, for a person who waits."""


class RemotePlace:
    """A device, for as long as the `with` lasts: one connection, and one folder there that goes with it.

    Raises PlaceLost where it cannot be reached or the connection is lost, Unsupported where it cannot run models.
    """

    def __init__(
        self, host: str, *, options: Sequence[str] = (), told: Told | None = None, brings_python: bool = True
    ) -> None:
        self.host = host
        self._brings_python = brings_python
        self._with: dict[str, str] = {}
        self._told = told or (lambda _: None)
        self._partner = Partner(ssh.python_command(host, _KEEPER, options))
        self._pushed: dict[str, str] = {}
        self._fed: set[str] = set()
        self._in_step = True

    def __enter__(self) -> Self:
        try:
            self._told(f"connecting to {self.host}")
            self.device = msgspec.convert(self._ask({"do": "hello"}), runner.Device)
            self._told("fetching what the device needs")
            found = self._about(lambda: runner.runner_for(self.device, brings_python=self._brings_python))
            self._with = self._installed(found)
            self._told("looking at the device")
            self._described = self._of_device(self._result(Describe(), Described))
            self._missing = found.missing
            self.version("onnxruntime")
        except BaseException:
            self._partner.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends the connection; the keeper there then removes its folder."""
        self._partner.__exit__(kind, error, at)

    @cached_property
    def facts(self) -> Facts:
        """Under emulation the kernel's files tell of another processor: then of what is emulated."""
        facts = self._described.facts
        if not self.device.emulated:
            return facts
        name = f"emulated-{self.device.arch.replace('_', '-')}"
        return replace(facts, name=name, cpu=f"emulated {self.device.arch}", cpu_features=())

    def machine(self, *, with_peaks: bool) -> Machine:
        """All that the device says of itself; its peaks take some seconds more."""
        if not with_peaks:
            return self._described.machine
        return self._of_device(self._result(Describe(with_peaks), Described)).machine

    def _of_device(self, told: Described) -> Described:
        """With the device's own Python, where another one was brought along."""
        if "python" not in self._with:
            return told
        return replace(told, machine=replace(told.machine, python=".".join(map(str, self.device.python))))

    @property
    def timing(self) -> Timing:
        return "meaningless" if self.device.emulated else "measured"

    @property
    def key(self) -> str:
        return f"{self.host} {msgspec.json.encode(self.facts).decode()}"

    def version(self, runtime: str) -> str:
        found = next((one for one in self._described.machine.runtimes if one.name == runtime), None)
        if found is None:
            raise Unsupported(f"{self.host}: its CPU has nothing that {runtime} is for")
        if not found.works or found.version is None:
            raise Unsupported(f"{self.host}: {self._missing.get(runtime.partition('-')[0], found.reason)}")
        return found.version

    def conditions(self) -> Conditions:
        return self._result(ReadConditions(), ConditionsRead).conditions

    def memory(self) -> MemoryRead:
        return self._result(ReadMemory(), MemoryRead)

    def ask(self, module: str, message: bytes, *, limit_s: float) -> bytes:
        request = {"do": "load", **self._with, "module": module, "limit_s": limit_s}
        answer, said = self._exchange(request, message, limit_s=limit_s + _LOAD_LIMIT_S)
        self.close(answer["child"])
        return self._said(answer, said)

    def open(self, file: str, runtime: str, threads: int) -> "RemoteSession":
        return RemoteSession(self, jobs.Open(self._put(Path(file).read_bytes()), runtime, threads))

    def measure_alone(self, contender: Contender, *, seconds: float = 0.2) -> SoloResult:
        return self._result(Solo(self._placed(contender), seconds), SoloResult)

    def race(
        self, contenders: Sequence[Contender], *, seconds: float, seed: int, generations: int = 3
    ) -> list[NDArray[np.float64]]:
        placed = tuple(self._placed(contender) for contender in contenders)
        job = RaceJob(placed, seconds, seed, briefly=self.device.emulated, generations=generations)
        return list(unpacked(self._result(job, Raced).times_ms).values())

    def generations(
        self,
        contenders: Sequence[Contender],
        *,
        count: int,
        seconds: float,
        seed: int,
        tell: Callable[[float], None] = lambda _: None,
    ) -> list[Generation]:
        tell(0.0)
        placed = tuple(self._placed(contender) for contender in contenders)
        job = jobs.GenerationsJob(placed, count, seconds, seed, briefly=self.device.emulated)
        found = self._result(job, jobs.GenerationsRun)
        tell(1.0)
        times = unpacked(found.times_ms)
        return [Generation(loaded, times[str(place)]) for place, loaded in enumerate(found.loaded)]

    def load(self, message: bytes) -> tuple[int, bytes]:
        """A child there that holds a model, by its number, and what it said first."""
        answer, said = self._exchange(
            {"do": "load", **self._with, "limit_s": _LOAD_LIMIT_S}, message, limit_s=2 * _LOAD_LIMIT_S
        )
        return answer["child"], self._said(answer, said)

    def feed(self, child: int, message: bytes) -> bytes:
        """What a child says to inputs; those that stayed there from an earlier model are not sent again."""
        digest = hashlib.sha256(message).hexdigest()
        follows = digest not in self._fed
        request = {"do": "feed", "child": child, "digest": digest, "follows": follows, "limit_s": _LOAD_LIMIT_S}
        answer, said = self._exchange(request, message if follows else None, limit_s=2 * _LOAD_LIMIT_S)
        if answer["kept"]:
            self._fed.add(digest)
        return self._said(answer, said)

    def close(self, child: int) -> None:
        """Ends a child; where the connection is not in step any more, it ends with that."""
        if self._in_step:
            self._ask({"do": "close", "child": child})

    def _said(self, answer: dict[str, Any], said: bytes | None) -> bytes:
        if said is None:
            raise self._died(answer)
        return said

    def _about(self, make: Callable[[], runner.Runner]) -> runner.Runner:
        try:
            return make()
        except EdgewardError as error:
            raise type(error)(f"{self.host}: {error.message}", hint=error.hint) from error

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

    def _installed(self, found: runner.Runner) -> dict[str, str]:
        """The folders there that hold our rooms and the runtimes, and the Python that runs them where it is not the
        device's own; what is not there yet is pushed."""
        own = () if found.python is None else (found.python,)
        digests = [part.digest for part in (*found.parts, *own)]
        there = {Path(path).name: path for path in self._ask({"do": "has", "digests": digests})["paths"]}
        for part in (*found.parts, *own):
            if part.digest not in there:
                self._told(f"sending {part.name} ({len(part.data) / 1e6:.1f} MB)")
                self._ask({"do": "put", "digest": part.digest}, part.data, limit_s=_PUT_LIMIT_S)
                request = {"do": "unpack", "digest": part.digest}
                if part is found.python:
                    request["program"] = found.program
                there[part.digest] = self._ask(request, limit_s=_PUT_LIMIT_S)["path"]
        path = {"path": ":".join(there[part.digest] for part in found.parts)}
        return path if found.python is None else {**path, "python": f"{there[found.python.digest]}/python"}

    def _result(self, job: PlacedJob, wanted: type[_Result]) -> _Result:
        request = {"do": "run", **self._with, "job": msgspec.json.encode(job).decode()}
        answer = self._ask(request, limit_s=_JOB_LIMIT_S)
        if answer["code"] != 0:
            raise self._died(answer)
        result: PlacedResult = msgspec.json.decode(answer["output"], type=PlacedResult)
        if isinstance(result, ErrorTold):
            raise getattr(errors, result.kind)(f"{self.host}: {result.message}", hint=result.hint)
        if not isinstance(result, wanted):
            raise Failed(f"{self.host} gave another answer than it was asked for")
        return result

    def _died(self, answer: dict[str, Any]) -> Failed:
        complaint = answer["complaint"].strip().splitlines()
        return Failed(f"{self.host}: it died there (exit code {answer['code']}) {''.join(complaint[-1:])}".strip())

    def _ask(self, request: dict[str, Any], data: bytes | None = None, *, limit_s: float = 60) -> dict[str, Any]:
        return self._exchange(request, data, limit_s=limit_s)[0]

    def _exchange(
        self, request: dict[str, Any], data: bytes | None, *, limit_s: float
    ) -> tuple[dict[str, Any], bytes | None]:
        """One request, with what follows it, and the answer with what follows that."""
        self._in_step = False
        self._partner.tell(json.dumps(request).encode())
        if data is not None:
            self._partner.tell(data)
        try:
            said, _, following = self._partner.hear(limit_s=limit_s).partition(b"\n")
            answer: dict[str, Any] = json.loads(said)
        except Failed as error:
            raise self._lost(error) from None
        except (ValueError, MemoryError, OverflowError):
            raise PlaceLost(f"{self.host}: something there writes to the connection before Python does") from None
        if "error" in answer:
            raise PlaceLost(f"{self.host}: {answer['error']}", hint=ssh.words(self.host, then=["df", "-h"]))
        self._in_step = True
        return answer, following if answer.get("follows") else None

    def _lost(self, error: Failed) -> PlaceLost:
        """What the end of the connection means."""
        if isinstance(error, Died):
            told = ssh.ended(self.host, error.code, error.complaint)
            return PlaceLost(told.message, hint=told.hint)
        return PlaceLost(f"{self.host} cannot be reached: {error.message}", hint=ssh.words(self.host, "-v"))


class RemoteSession:
    """A Session by messages to a process on a device; a context manager that ends it."""

    def __init__(self, place: RemotePlace, job: jobs.Open) -> None:
        self._place = place
        self._child, said = place.load(jobs.encode(job))
        try:
            opened = self._about(said, jobs.Opened)
        except BaseException:
            place.close(self._child)
            raise
        self.inputs = opened.inputs
        self.outputs = opened.outputs
        self.placement = opened.placement

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._place.close(self._child)

    @cached_property
    def arithmetic(self) -> str | None:
        said = self._place.feed(self._child, jobs.encode(jobs.Account()))
        told: jobs.Accounted = self._about(said, jobs.Accounted)
        return told.arithmetic

    def alone(self, contender: Contender, *, seconds: float = 0.2) -> SoloResult:
        return self._place.measure_alone(contender, seconds=seconds)

    def widen(self, copies: int) -> None:
        """Not on a device."""

    def run(self, feeds: Tensors) -> list[NDArray[Any]]:
        said = self._place.feed(self._child, jobs.encode(jobs.packed(feeds)))
        return list(unpacked(self._about(said, jobs.Tensors)).values())

    def _about(self, said: bytes, wanted: Any) -> Any:
        """What the process said. Raises the error that it told, with the host's name."""
        try:
            return answer_of(said, wanted)
        except EdgewardError as error:
            raise type(error)(f"{self._place.host}: {error.message}", hint=error.hint) from None
