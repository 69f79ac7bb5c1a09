"""Times contenders in generations of fresh processes, so that what a start draws (where a model lies in memory, which
CPU it begins on) is drawn many times over."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeward.kit.process import Partner
from edgeward.measure.bench import WORKERS, answer_of
from edgeward.measure.jobs import Contender, Fresh, Loaded, Ready, Timed, Turn, encode
from edgeward.measure.one_cpu import on_one_cpu

_LOAD_LIMIT_S = 120
_TURN_LIMIT_S = 120
_TURN_MS = 4.0
_MOST_RUNS = 5
WARMUP_ROUNDS = 3
_LEAST_ROUNDS = 3


class Generation(NamedTuple):
    """What one set of fresh processes gave: by contender, its load, and its times as rounds × runs, in milliseconds."""

    loaded: tuple[Loaded, ...]
    times_ms: NDArray[np.float64]


def run_generations(
    contenders: Sequence[Contender],
    *,
    count: int,
    seconds: float,
    seed: int,
    tell: Callable[[float], None] = lambda _: None,
) -> list[Generation]:
    """`count` generations of `seconds` of timing each; `tell` hears the share that is done.

    Every contender has a process of its own. They load one after the other and then take turns, in a new random order
    in each round, on one CPU where several run on one thread each. Raises Failed when a runtime dies.
    """
    found = []
    for place in range(count):
        tell(place / count)
        found.append(_generation(contenders, seconds, np.random.default_rng((seed, place))))
    tell(1.0)
    return found


def _generation(contenders: Sequence[Contender], seconds: float, generator: np.random.Generator) -> Generation:
    with ExitStack() as stack:
        partners = [stack.enter_context(WORKERS.take()) for _ in contenders]
        for partner, contender in zip(partners, contenders, strict=True):
            partner.tell(encode(Fresh(contender)))
        for partner in partners:
            answer_of(partner.hear(limit_s=_LOAD_LIMIT_S), Ready)
        loaded: dict[int, Loaded] = {}
        for number in generator.permutation(len(partners)):
            answer = partners[number].ask(b"load", limit_s=_LOAD_LIMIT_S)
            loaded[int(number)] = answer_of(answer, Loaded)
        if len(contenders) > 1 and all(contender.threads == 1 for contender in contenders):
            stack.enter_context(on_one_cpu([partner.pid for partner in partners]))
        return Generation(tuple(loaded[number] for number in range(len(partners))), _race(partners, seconds, generator))


def _race(partners: Sequence[Partner], seconds: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Contenders × rounds × runs."""
    probe = _round(partners, Turn(0, 0, 1, untimed=1), generator)
    runs = max(1, min(_MOST_RUNS, round(_TURN_MS / float(probe.mean()))))
    untimed = max(1, (runs + 1) // 2)
    warmup = WARMUP_ROUNDS if runs > 1 else 0
    for place in range(warmup):
        _round(partners, Turn(0, place, runs, untimed), generator)
    rounds, start = list[NDArray[np.float64]](), perf_counter()
    while len(rounds) < _LEAST_ROUNDS or perf_counter() - start < seconds:
        rounds.append(_round(partners, Turn(0, len(rounds), runs, untimed), generator))
    return np.stack(rounds, axis=1)


def _round(partners: Sequence[Partner], turn: Turn, generator: np.random.Generator) -> NDArray[np.float64]:
    taken = np.empty((len(partners), turn.runs))
    message = encode(turn)
    for number in generator.permutation(len(partners)):
        taken[number] = answer_of(partners[number].ask(message, limit_s=_TURN_LIMIT_S), Timed).times_ns
    return taken / 1e6
