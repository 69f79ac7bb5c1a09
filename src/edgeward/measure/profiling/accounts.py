"""Runs a model in turn as it is and under its runtime's profiler, in a process of its own:
`python -m edgeward.measure.profiling.accounts` takes a job and answers."""

import sys
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from numpy.typing import NDArray

from edgeward.infer import runtimes
from edgeward.infer.runtimes import Account, Accountant
from edgeward.kit import errors
from edgeward.kit.errors import EdgewardError, Failed, Unsupported
from edgeward.kit.process import receive, send
from edgeward.measure.jobs import ErrorTold, Tensors, packed, unpacked
from edgeward.measure.worker import own_output

if TYPE_CHECKING:
    from edgeward.measure.place import Place

_MODULE = "edgeward.measure.profiling.accounts"
_SLACK_S = 300.0
_UNTIMED_RUNS, _RUNS_IN_A_TURN = 3, 8
_FEWEST_ROUNDS = 5


class Job(Struct, frozen=True):
    """The model as it is, and as it is profiled (with operators called after their places)."""

    runtime: str
    threads: int
    seconds: float
    model: bytes
    numbered: bytes
    feeds: tuple[Tensors, ...]


class Told(Struct, frozen=True, tag="told"):
    """The runtime's account, and milliseconds of whole runs: without the profiler, and with it."""

    account: Account
    plain_ms: tuple[float, ...]
    profiled_ms: tuple[float, ...]
    placement: str = ""


def told_of(
    runtime: str, model: bytes, numbered: bytes, feeds: Sequence[Mapping[str, NDArray[Any]]], *, threads: int,
    seconds: float, place: "Place",
) -> Told:  # fmt: skip
    """Takes about `seconds` and the loading. Raises what loading and running raise, Failed when the process dies."""
    job = Job(runtime, threads, seconds, model, numbered, tuple(packed(feed) for feed in feeds))
    answer = place.ask(_MODULE, msgspec.msgpack.encode(job), limit_s=_SLACK_S + 3 * seconds)
    told = msgspec.msgpack.decode(answer, type=Told | ErrorAnswer)
    if isinstance(told, ErrorAnswer):
        raise getattr(errors, told.error.kind)(told.error.message, hint=told.error.hint)
    return told


class ErrorAnswer(Struct, frozen=True, tag="error"):
    """What went wrong, as one of our errors."""

    error: ErrorTold


def _told(job: Job) -> Told:
    loader: Any = runtimes.load(job.runtime)
    if not hasattr(loader, "account"):
        raise Unsupported(
            f"{job.runtime} keeps no account of the operators that it runs", hint="edgeward bench times it as a whole"
        )
    session = loader.load(job.model, threads=job.threads)
    accountant: Accountant = loader.account(job.numbered, threads=job.threads)
    feeds = [unpacked(feed) for feed in job.feeds]
    plain = _in_turn(session.run, accountant.run, feeds, job.seconds)
    return Told(accountant.account(), tuple(plain), tuple(accountant.took_ms), getattr(session, "placement", "") or "")


def _in_turn(
    plain: Callable[[Any], object], profiled: Callable[[Any], object], feeds: Sequence[Any], seconds: float
) -> list[float]:
    """Milliseconds of the plain runs. Each has its turn, so that a change of the machine meets both alike; the first
    runs of a turn are untimed: they bring code and weights back into the caches."""
    taken: list[float] = []
    for call in (plain, profiled):
        call(feeds[0])
    start, rounds = perf_counter(), 0
    while rounds < _FEWEST_ROUNDS or perf_counter() - start < seconds:
        feed = feeds[rounds % len(feeds)]
        rounds += 1
        runs = 1 if perf_counter() - start > seconds else _RUNS_IN_A_TURN
        for _ in range(min(runs, _UNTIMED_RUNS)):
            plain(feed)
        for _ in range(runs):
            begin = perf_counter_ns()
            plain(feed)
            taken.append((perf_counter_ns() - begin) / 1e6)
        for _ in range(runs):
            profiled(feed)
    return taken


def main() -> None:
    """One job in, one answer out."""
    with own_output() as output:
        message = receive(sys.stdin.buffer)
        if message is None:
            raise Failed("no job came")
        answer: Told | ErrorAnswer
        try:
            answer = _told(msgspec.msgpack.decode(message, type=Job))
        except EdgewardError as error:
            answer = ErrorAnswer(ErrorTold(kind=type(error).__name__, message=error.message, hint=error.hint))
        except MemoryError:
            answer = ErrorAnswer(ErrorTold(kind="Failed", message="it wanted more memory than is free", hint=None))
        send(output, msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    main()
