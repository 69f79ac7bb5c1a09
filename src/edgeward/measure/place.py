"""Where candidates run and are timed: here, or on a device."""

import platform
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from edgeward.infer import runtimes
from edgeward.infer.runtimes import Session
from edgeward.kit.errors import Unavailable
from edgeward.kit.process import Partner
from edgeward.measure import bench, machine, naming, sysfs
from edgeward.measure.conditions import Conditions, conditions
from edgeward.measure.generations import Generation, run_generations
from edgeward.measure.isolated import IsolatedSession
from edgeward.measure.jobs import Contender, Facts, MemoryRead, SoloResult
from edgeward.records.candidate import Timing


class PlaceLost(Unavailable):
    """The machine that measures is gone: nothing more can be learnt there, whatever is tried."""


class OpenSession(Session, Protocol):
    """A model that is loaded at a place, until the `with` ends; `arithmetic` is what its products are computed in,
    `placement` which nodes run on the accelerator that its runtime is for."""

    @property
    def arithmetic(self) -> str | None: ...

    @property
    def placement(self) -> str | None: ...

    def alone(self, contender: Contender, *, seconds: float = 0.2) -> SoloResult:
        """What `measure_alone` finds of the contender, which is this model on as many threads; of this very process
        where the place can do that, and then only the first answer tells of loading. Raises Failed when it crashes."""

    def widen(self, copies: int) -> None:
        """Many samples are shared out from now on among so many copies of the model, where the place can do that."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class Place(Protocol):
    """A machine that measures. Files lie on this machine; a place far away fetches them.

    What goes wrong with a model is Failed, Unsupported or WrongInput; PlaceLost is the end of the place itself.
    """

    @property
    def facts(self) -> Facts: ...

    @property
    def timing(self) -> Timing:
        """What its times are worth."""

    @property
    def key(self) -> str:
        """Names the machine: what was measured under one key holds for another run under the same."""

    def version(self, runtime: str) -> str:
        """Of a runtime there. Raises Unsupported, with the reason, where it is not there."""

    def conditions(self) -> Conditions:
        """Those of this moment there."""

    def memory(self) -> MemoryRead:
        """What there is to measure with there, now."""

    def ask(self, module: str, message: bytes, *, limit_s: float) -> bytes:
        """What a fresh process there, of that module of ours, answers to one message. Raises Failed when it dies."""

    def open(self, file: str, runtime: str, threads: int) -> OpenSession:
        """The model, loaded in a process of its own there: its answers are in that machine's own arithmetic."""

    def measure_alone(self, contender: Contender, *, seconds: float = 0.2) -> SoloResult:
        """Load, first and steady inference and peak memory in a fresh process. Raises Failed when it crashes."""

    def race(
        self, contenders: Sequence[Contender], *, seconds: float, seed: int, generations: int = 3
    ) -> list[NDArray[np.float64]]:
        """Milliseconds of each contender, rounds × runs, taken in turn, in so many generations of processes."""

    def generations(
        self,
        contenders: Sequence[Contender],
        *,
        count: int,
        seconds: float,
        seed: int,
        tell: Callable[[float], None] = lambda _: None,
    ) -> list[Generation]:
        """`count` generations of fresh processes, in each `seconds` of turns; `tell` hears the share that is done."""


class Here:
    """This machine, in processes of their own. Its energy meters are read below `root`."""

    def __init__(self, root: Path = sysfs.ROOT) -> None:
        self.root = root

    @cached_property
    def facts(self) -> Facts:
        return Facts(
            name=naming.target_name(), arch=machine.arch(), cpu_features=machine.cpu_features(),
            hostname=naming.hostname(), cpu=machine.cpu(), cpu_count=machine.usable_cpu_count(),
            kernel=platform.release(),
        )  # fmt: skip

    @property
    def timing(self) -> Timing:
        return "measured"

    @property
    def key(self) -> str:
        return f"{self.facts.name} {self.facts.arch} {' '.join(self.facts.cpu_features)}"

    def version(self, runtime: str) -> str:
        return runtimes.load(runtime).version()

    def conditions(self) -> Conditions:
        return conditions()

    def memory(self) -> MemoryRead:
        from edgeward.measure.peaks import last_level_cache_bytes  # brings in ONNX Runtime

        free = sysfs.kibibytes(sysfs.fields(sysfs.ROOT / "proc/meminfo").get("MemAvailable"))
        return MemoryRead(free, last_level_cache_bytes(sysfs.ROOT))

    def ask(self, module: str, message: bytes, *, limit_s: float) -> bytes:
        with Partner((sys.executable, "-m", module)) as partner:
            return partner.ask(message, limit_s=limit_s)

    def open(self, file: str, runtime: str, threads: int) -> OpenSession:
        return IsolatedSession(file, runtime, threads)

    def measure_alone(self, contender: Contender, *, seconds: float = 0.2) -> SoloResult:
        return bench.measure_alone(contender, seconds=seconds)

    def race(
        self, contenders: Sequence[Contender], *, seconds: float, seed: int, generations: int = 3
    ) -> list[NDArray[np.float64]]:
        return bench.race(contenders, seconds=seconds, seed=seed, generations=generations)

    def generations(
        self,
        contenders: Sequence[Contender],
        *,
        count: int,
        seconds: float,
        seed: int,
        tell: Callable[[float], None] = lambda _: None,
    ) -> list[Generation]:
        return run_generations(contenders, count=count, seconds=seconds, seed=seed, tell=tell)


HERE: Place = Here()
