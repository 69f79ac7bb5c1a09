"""Tries recipes one after the other, and then those that the trials so far make worth trying."""

import math
from collections import deque
from contextlib import suppress
from typing import NamedTuple, Protocol

from edgeward.infer import runtimes
from edgeward.kit.clock import Clock
from edgeward.kit.errors import EdgewardError
from edgeward.measure.limits import violations_of
from edgeward.measure.place import Place
from edgeward.optimize import mixed, trials
from edgeward.optimize.explain import noise_of
from edgeward.optimize.follow_ups import follow_ups
from edgeward.optimize.memory import Memory
from edgeward.optimize.named_layers import layers_of, with_names
from edgeward.optimize.parent import recipes_for
from edgeward.optimize.prepare import BASELINE_RUNTIME, Order, Task
from edgeward.optimize.propose import (
    QUANTISER,
    Outcome,
    Tried,
    family,
    is_another,
    is_plain_int8,
    recipes,
    slow_plain_form,
)
from edgeward.optimize.quicker import bases, quicker
from edgeward.optimize.trials import Candidate, Judge, Rig
from edgeward.records.candidate import Recipe, Trial

RACE_SHARE = 0.35
"""At most this share of a time limit goes into the race."""
_HOPELESS = 1.4
"""A candidate that alone takes so many times as long as one that keeps the limits is not measured further."""
_HOPELESS_AS_IT_IS = 1.2
"""Nor so many times, where no further recipe makes the same faster: layers in float for speed are a matter of int8."""
_BEGINS, _ENDS = 0.1, 0.75
"""Where trying lies in the whole work."""


class Progress(Protocol):
    """Told how far the work has come; `done` is a share of all of it."""

    def stage(self, text: str, done: float) -> None: ...

    def say(self, text: str) -> None:
        """A line that stays."""


class Found(NamedTuple):
    """The model as given first, then all that ran; what did not, with its reason; and the judge of all of them."""

    candidates: list[Candidate]
    failures: list[Trial]
    judge: Judge


class Search:
    """One search over recipes for a task; `run` it once. In the runtime `lead` int8 is forecast to be the fastest."""

    def __init__(
        self,
        order: Order,
        task: Task,
        rig: Rig,
        clock: Clock,
        start_s: float,
        progress: Progress,
        saved_time: mixed.SavedTime = lambda _model, _runtime: {},
        lead: str | None = None,
    ) -> None:
        self._order, self._task, self._rig, self._progress = order, task, rig, progress
        self._clock, self._start_s = clock, start_s
        self._chains = trials.Chains(task, order.seed)
        self._tried = list[Tried]()
        self._hopeless = dict[tuple[str, ...], str]()
        self._family_ms = dict[tuple[str, ...], float]()
        self._seen = set[str]()
        self._mixing = mixed.Mixing(self._chains, task.calibration, order.max_drop, saved_time)
        self._saved_time = saved_time
        self._lead = lead
        self._asked_quicker = False
        self._shown = _BEGINS

    def run(self) -> Found:
        """Every recipe as a candidate or a failure, the model as given first."""
        self._progress.stage("the model as given", _BEGINS / 2)
        file = trials.given_file(self._rig)
        file.write_bytes(self._task.model_bytes)
        place, known = self._rig.place, first_recipes(self._rig.place, self._lead)
        queue = deque([*(() if self._task.parent is None else recipes_for(self._task.parent, known)), *known])
        with place.open(str(file), BASELINE_RUNTIME, self._rig.threads[0]) as session:
            given, judge = trials.as_given(self._task, self._order, self._rig, session)
            self._rig, again = trials.beside(self._rig, given, session)
            self._note(again)
            found = Found([given], [], judge)
            memory = Memory(self._order.memory, self._task, judge, self._rig, again.alone_ms)
            self._try_all(queue, found, memory)
        memory.forget_oldest()
        return found

    def _try_all(self, queue: deque[Recipe], found: Found, memory: Memory) -> None:
        while queue:
            recipe = queue.popleft()
            self._seen.add(recipe.name)
            self._show(recipe, len(queue))
            outcome = self._outcome(recipe, memory, found.judge)
            if isinstance(outcome, Candidate):
                found.candidates.append(outcome)
                self._note(outcome)
            elif outcome is not None:
                found.failures.append(outcome)
            if not queue:
                queue.extend(self._next())

    def noise(self) -> dict[str, float]:
        """Of each layer in int8, signal over noise in decibels, as far as this search can tell."""
        if self._mixing.noise:
            return {layer.name: layer.sqnr_db for layer in self._mixing.noise}
        return noise_of([one.recipe for one in self._tried], self._chains, self._task.calibration)

    def _next(self) -> list[Recipe]:
        """What the trials so far ask for: layers in float for speed, then remedies, then mixed precision."""
        if self._time_is_over():
            return []
        if quick := self._quicker():
            return quick
        if new := follow_ups(self._tried, self._order.max_drop, self._seen):
            return list(new)
        recipe = self._mixing.next(self._tried, self._seen)
        return [] if recipe is None else [recipe]

    def _quicker(self) -> list[Recipe]:
        """int8 with layers in float for speed; asked once, when all first recipes were tried."""
        if self._asked_quicker or self._rig.place.timing != "measured":
            return []
        self._asked_quicker = True
        found = list[Recipe]()
        for base in bases(self._tried):
            place = next(place for place, step in enumerate(base.steps) if step.use == QUANTISER)
            before = with_names(self._chains.passed(base.steps[:place]).model)
            saved_ms = self._saved_time(before, base.runtime)
            found += quicker(base, [layer.name for layer in layers_of(before)], saved_ms, self._seen)
        return found

    def _outcome(self, recipe: Recipe, memory: Memory, judge: Judge) -> Candidate | Trial | None:
        if self._time_is_over():
            return trials.failed(recipe, "left out: the time limit came first")
        if (known := memory.recall(recipe)) is not None:
            return known
        if (alike := self._hopeless.get(family(recipe))) is not None:
            return trials.failed(recipe, f"left out, since {alike} does the same work and was stopped")
        slow = slow_plain_form(recipe, self._tried) if self._rig.place.timing == "measured" else None
        if slow is not None:
            return trials.failed(recipe, f"left out, since {slow} is too slow for a variant of it to win")
        try:
            slowest_ms = math.inf if family(recipe) in self._family_ms else self._slowest_ms(recipe)
            outcome = trials.made(self._task, self._chains, recipe, judge, self._rig, slowest_ms)
        except trials.Hopeless as error:
            self._hopeless[family(recipe)] = recipe.name
            self._tried.append(Tried(recipe, "failed", math.inf, 0.0))
            return trials.failed(recipe, f"stopped early: {error.message}", error.alone_ms)
        except trials.Wrong as error:
            self._tried.append(Tried(recipe, "missed", error.alone_ms, error.quality_drop))
            return trials.failed(recipe, f"stopped early: {error.message}", error.alone_ms)
        if isinstance(outcome, Candidate):
            memory.keep(recipe, outcome)
        return outcome

    def _time_is_over(self) -> bool:
        limit_s = self._order.time_limit_s
        return limit_s is not None and self._clock.monotonic_s() - self._start_s > limit_s * (1 - RACE_SHARE)

    def _slowest_ms(self, recipe: Recipe) -> float:
        """So many times the fastest that kept the limits, or the model as given where nothing did. What is slow here
        may be fast on a target that was not measured."""
        if self._rig.place.timing != "measured":
            return math.inf
        is_static_int8 = any(step.use == QUANTISER for step in recipe.steps)
        return (_HOPELESS if is_static_int8 else _HOPELESS_AS_IT_IS) * min(
            (one.alone_ms for one in self._tried if one.outcome == "kept"), default=self._tried[0].alone_ms
        )

    def _note(self, candidate: Candidate) -> None:
        trial = candidate.trial
        recipe = Recipe(name=trial.recipe, steps=trial.steps, runtime=trial.runtime)
        violations = violations_of(trial, self._order.budget, self._order.max_drop)
        limits = {violation.limit for violation in violations}
        outcome: Outcome = "kept" if not limits else "missed" if limits == {"quality_drop"} else "failed"
        # What recipes of one family cost differs by chance alone.
        alone_ms = self._family_ms.setdefault(family(recipe), candidate.alone_ms)
        self._tried.append(Tried(recipe, outcome, alone_ms, trial.quality_drop or 0.0))

    def _show(self, recipe: Recipe, left: int) -> None:
        count = len(self._seen)
        share = _BEGINS + (_ENDS - _BEGINS) * count / (count + left + 1)
        self._shown = max(self._shown, share)
        self._progress.stage(f"{recipe.name} ({count} of {count + left})", self._shown)


def first_recipes(place: Place, lead: str | None = None) -> tuple[Recipe, ...]:
    """What is worth trying at a place, further runtimes that work there included. int8 in the runtime `lead` comes
    first: what takes far longer is then not measured to its end."""
    others = list[str]()
    for name in filter(is_another, runtimes.names()):
        with suppress(EdgewardError):
            place.version(name)
            others.append(name)
    found = recipes(place.facts.arch, place.facts.cpu_features, others)
    return tuple(sorted(found, key=lambda recipe: not (recipe.runtime == lead and is_plain_int8(recipe))))
