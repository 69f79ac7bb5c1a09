"""Feeds the service manager's watchdog by inferences that ended, never by a timer alone: a model that hangs is not fed.

Whoever was asked nothing proves that it lives by one real inference on its own worker, behind what waits there.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from edgeward.kit import log, notify
from edgeward.kit.clock import Clock, SystemClock
from edgeward.kit.figures import milliseconds
from edgeward.serve.stats import ModelStats


class Life(NamedTuple):
    """What one model did since the watchdog was fed: whether an inference ended, and whether it is asked for proof."""

    name: str
    has_ended_one: bool
    is_asked: bool


class Decision(NamedTuple):
    """`who` are the places in the list of lives that are to be asked for proof."""

    do: Literal["feed", "prove", "wait", "starve"]
    reason: str
    who: tuple[int, ...] = ()


def decide(lives: Sequence[Life], since_s: float, limit_s: float) -> Decision:
    """What to do `since_s` after the watchdog was fed, when it bites after `limit_s`."""
    silent = [place for place, life in enumerate(lives) if not life.has_ended_one]
    if not silent:
        return Decision("feed", "every model has ended an inference")
    first = f"{lives[silent[0]].name} has ended no inference for {since_s:.3g} s"
    if since_s < limit_s / 2:
        return Decision("wait", f"{first}; there is time")
    unasked = tuple(place for place in silent if not lives[place].is_asked)
    if unasked:
        return Decision("prove", first, unasked)
    return Decision("wait" if since_s < limit_s * 3 / 4 else "starve", f"{first}, asked for one as proof of life")


class Living(Protocol):
    """A model that can be watched. `completed` counts the inferences that it ended well."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def completed(self) -> int: ...
    @property
    def stats(self) -> ModelStats: ...

    async def prove(self) -> None:
        """Ends one real inference behind the work that waits. Raises whatever the model raises."""
        ...


class Watchdog:
    """Tells the service manager, where there is one, that the service at `url` is ready, how it fares, and that it
    stops; and feeds the manager's watchdog, where it has one. `models` gives those of the moment."""

    def __init__(self, models: Callable[[], Sequence[Living]], url: str, clock: Clock | None = None) -> None:
        self._models = models
        self._url = url
        self._limit_s = notify.watchdog_s()
        self._clock = clock or SystemClock()
        self._before: dict[Living, int] = {}
        self._proofs: dict[Living, asyncio.Task[None]] = {}
        self._proven: set[Living] = set()
        self._fed_s = self._clock.monotonic_s()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """In the running loop, once requests are answered."""
        notify.tell("READY=1", notify.status(status_line(self._models(), self._url)))
        if self._limit_s is not None:
            self._watching = asyncio.create_task(self._watch(self._limit_s))

    async def stop(self) -> None:
        """Feeds no more; returns when no worker is busy with a proof."""
        notify.tell("STOPPING=1", notify.status("finishes the requests under way"))
        if self._watching is not None:
            self._watching.cancel()
        await asyncio.gather(*self._proofs.values())

    async def _watch(self, limit_s: float) -> None:
        """Looks eight times within the limit, which leaves a proof three eighths of it."""
        self._feed()
        while True:
            await asyncio.sleep(limit_s / 8)
            self._look(limit_s)

    def _look(self, limit_s: float) -> None:
        """Does what the rule decides now."""
        models = self._models()
        lives = [
            Life(f"{model.name} {model.version}", self._has_ended_one(model), model in self._proofs)
            for model in models
        ]  # fmt: skip
        decision = decide(lives, self._clock.monotonic_s() - self._fed_s, limit_s)
        if decision.do == "feed":
            self._feed()
        elif decision.do == "starve":
            log.warning("watchdog-not-fed", reason=decision.reason)
        for model in (models[place] for place in decision.who):
            self._proofs[model] = asyncio.create_task(self._prove(model, limit_s))

    def _has_ended_one(self, model: Living) -> bool:
        return model in self._proven or model.completed != self._before.get(model, 0)

    def _feed(self) -> None:
        self._before = {model: model.completed for model in self._models()}
        self._proven.clear()
        self._fed_s = self._clock.monotonic_s()
        notify.tell("WATCHDOG=1", notify.status(status_line(self._models(), self._url)))

    async def _prove(self, model: Living, limit_s: float) -> None:
        try:
            await model.prove()
        except Exception as error:  # noqa: BLE001 - a runtime raises what it likes; a model that fails is not alive
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            log.warning("proof-of-life-failed", model=model.name, version=model.version, reason=reason)
        else:
            self._proven.add(model)
        finally:
            del self._proofs[model]
        self._look(limit_s)


def status_line(models: Sequence[Living], url: str) -> str:
    """What `systemctl status` shows: what is served where, and what came of it so far."""
    served = ", ".join(f"{model.name} {model.version}" for model in models)
    requests = sum(model.stats.requests for model in models)
    errors = sum(model.stats.errors for model in models)
    if not requests:
        return f"serves {served} at {url}; nothing was asked yet"
    recent = [spent.total for model in models for spent in model.stats.recent]
    median = f", median {milliseconds(1e3 * sorted(recent)[len(recent) // 2])}" if recent else ""
    return f"serves {served} at {url}; {requests} requests, {errors} errors{median}"
