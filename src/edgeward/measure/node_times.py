"""Times the nodes of models in a process of its own: `python -m edgeward.measure.node_times` takes a job and answers.

Models that are compared are loaded together and run in turn, so that a change of the machine meets them alike; no more
than these, since the idle threads of a loaded model take time from the others.
"""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgeward.infer import runtimes
from edgeward.infer.runtimes import NodeTime, Profile
from edgeward.kit.errors import EdgewardError, Failed, Unsupported
from edgeward.kit.process import receive, send
from edgeward.measure.jobs import Tensors, packed, unpacked
from edgeward.measure.worker import own_output
from edgeward.records.model import TensorSpec

if TYPE_CHECKING:
    from edgeward.measure.place import Place

_MODULE = "edgeward.measure.node_times"
_RUNS_IN_A_TURN = 8
_SLACK_S = 30.0


_Feeds = dict[str, NDArray[Any]]


class Job(Struct, frozen=True):
    """Models for one runtime, so many loaded `together`; an empty one is none. Without `feeds`, values are made up.
    With `cpu` all is done on that one."""

    runtime: str
    threads: int
    seconds: float
    models: tuple[bytes, ...]
    together: int
    limit_s: float
    feeds: Tensors | None = None
    cpu: int | None = None


class Times(Struct, frozen=True):
    """Of each model its nodes, or why it did not run."""

    models: tuple[tuple[NodeTime, ...] | str, ...]


def node_times(
    runtime: str,
    models: Sequence[bytes],
    *,
    threads: int,
    seconds: float,
    together: int = 1,
    limit_s: float = math.inf,
    feeds: Mapping[str, NDArray[Any]] | None = None,
    cpu: int | None = None,
    place: "Place | None" = None,
) -> tuple[tuple[NodeTime, ...] | str, ...]:
    """Of each model the times of its nodes, or one sentence why there are none. Takes about `seconds` and the loading;
    after `limit_s` no further model is loaded. Here, where no place is given.

    Raises Failed when the process dies or hangs, Unsupported for a runtime that is not there.
    """
    job = Job(
        runtime, threads, seconds, tuple(models), together, limit_s, None if feeds is None else packed(feeds), cpu
    )
    answer = (place or _here()).ask(_MODULE, msgspec.msgpack.encode(job), limit_s=_SLACK_S + 3 * seconds)
    times = msgspec.msgpack.decode(answer, type=Times | str)
    if isinstance(times, str):
        raise Unsupported(times)
    return tuple(times.models)


def _here() -> "Place":
    from edgeward.measure.place import HERE  # brings in much that the process which measures does without

    return HERE


def _timed(job: Job) -> Times:
    if job.cpu is not None:
        os.sched_setaffinity(0, {job.cpu})
    loader: Any = runtimes.load(job.runtime)
    if not hasattr(loader, "profile"):
        raise Unsupported(f"{job.runtime} keeps no account of its nodes")
    given = None if job.feeds is None else unpacked(job.feeds)
    groups = [job.models[at : at + job.together] for at in range(0, len(job.models), job.together)]
    times: list[tuple[NodeTime, ...] | str] = []
    start = perf_counter()
    for group in groups:
        if perf_counter() - start > job.limit_s:
            times += ["there was no time left for it"] * len(group)
            continue
        times += _in_turn([_first_run(loader, model, job.threads, given) for model in group], job.seconds / len(groups))
    return Times(tuple(times))


def _first_run(loader: Any, model: bytes, threads: int, given: _Feeds | None) -> tuple[Profile, _Feeds] | str:
    if not model:
        return "there is no model"
    try:
        profile: Profile = loader.profile(model, threads=threads)
        feeds = given or {spec.name: _made_up(spec) for spec in profile.inputs}
        profile.run(feeds)
    except EdgewardError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 - a runtime on a model nobody has seen: one layer without a figure
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return profile, feeds


def _in_turn(loaded: Sequence[tuple[Profile, _Feeds] | str], seconds: float) -> list[tuple[NodeTime, ...] | str]:
    """At least three rounds; a run that is slow takes its turn only once in each."""
    start, rounds = perf_counter(), 0
    while rounds < 3 or perf_counter() - start < seconds:
        rounds += 1
        for item in loaded:
            if not isinstance(item, str):
                for _ in range(_RUNS_IN_A_TURN if perf_counter() - start < seconds else 1):
                    item[0].run(item[1])
    return [item if isinstance(item, str) else item[0].node_times() for item in loaded]


def _made_up(spec: TensorSpec) -> NDArray[Any]:
    """Values that are neither zero nor denormal, which some kernels are slower or faster on."""
    shape = tuple(dim if isinstance(dim, int) and dim > 0 else 1 for dim in spec.shape)
    generator = np.random.default_rng(0)
    if spec.dtype.startswith(("int", "uint")):
        return generator.integers(1, 100, shape).astype(spec.dtype)
    return generator.uniform(0.1, 1.0, shape).astype(spec.dtype)


def main() -> None:
    """One job in, one answer out."""
    with own_output() as output:
        message = receive(sys.stdin.buffer)
        if message is None:
            raise Failed("no job came")
        try:
            answer: Times | str = _timed(msgspec.msgpack.decode(message, type=Job))
        except EdgewardError as error:
            answer = error.message
        send(output, msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    main()
