"""Mixed precision: where int8 misses the gate, the layers that do most harm for the time they save stay in float.

How many of them is found by bisection, for the fastest int8 recipe first. What was enough there is then tried once in
the other runtimes. All here are rules, but for Mixing, which lets the noise and the times be measured.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from statistics import fmean
from typing import NamedTuple

import onnx
from msgspec.structs import replace

from edgeward.infer import Predictor, Sample, runtimes
from edgeward.kit.errors import EdgewardError
from edgeward.optimize.propose import Tried, family
from edgeward.optimize.sensitivity import SAMPLES, LayerNoise, layer_noise
from edgeward.optimize.trials import Chains
from edgeward.records.candidate import Recipe, Step

MOST_RECIPES = 6
"""Of one int8 recipe."""
_QUANTISER = "quantize-static"
_WORTH = 1.1
"""Mixed precision lies between int8 and float: int8 must be so many times as fast as what keeps the gate."""
_HOPE = 0.5
"""Of the noise that the gate would bear, were the drop in proportion to it: the first guess stays below."""
_LEAST_SAVING = 0.1
"""Of the mean saving of a layer: what leaving one in float costs at least, since values are converted around it."""

_LEAST_S, _RUNS = 4.0, 200
"""Comparing layers may take so long, or so many inferences: a fraction of what one trial takes."""

SavedTime = Callable[[onnx.ModelProto, str], Mapping[str, float]]
"""Of the layers of a float graph, by name, the milliseconds that int8 saves in a runtime; those that are known."""


class Plan(NamedTuple):
    """An int8 recipe that misses the gate, and its layers in the order to leave them in float. More than `low` of
    them are needed, and fewer than `high`; `guess` may be enough."""

    base: Recipe
    order: tuple[str, ...]
    low: int
    high: int
    guess: int


class Mixing:
    """The follow-up search; give it all that was tried each time it is asked, until it has nothing more."""

    def __init__(self, chains: Chains, samples: Iterable[Sample], max_drop: float, saved_time: SavedTime) -> None:
        self._chains, self._samples, self._max_drop, self._saved_time = chains, samples, max_drop, saved_time
        self._mixed = set[str]()
        self._plan: Plan | None = None
        self.noise: tuple[LayerNoise, ...] = ()
        """Of the layers of the int8 recipe that was mixed first; empty before."""

    def next(self, tried: Sequence[Tried], seen: Collection[str]) -> Recipe | None:
        """The recipe to try next; `seen` has the names of all that were tried, those that did not run among them."""
        while True:
            self._plan = self._plan or self._new_plan(tried)
            if self._plan is None:
                return None
            recipe = next_recipe(self._plan, tried, seen)
            if recipe is not None:
                return recipe
            self._plan = None

    def _new_plan(self, tried: Sequence[Tried]) -> Plan | None:
        while (base := base_of(tried, self._mixed)) is not None:
            self._mixed.add(base.recipe.name)
            enough = enough_before(base.recipe, tried)
            if enough:
                return Plan(base.recipe, enough, len(enough) - 1, len(enough) + 1, len(enough))
            try:
                return self._measured_plan(base)
            except EdgewardError:  # its layers cannot be told apart, or its float graph does not run as it is
                continue
        return None

    def _measured_plan(self, base: Tried) -> Plan:
        place = _quantiser_place(base.recipe)
        before = self._chains.passed(base.recipe.steps[:place])
        after = self._chains.passed(base.recipe.steps[: place + 1])
        session = runtimes.load("onnxruntime").load(before.model.SerializeToString(), threads=1)
        predictor = Predictor(session, preprocess=before.preprocess)
        feeds = [predictor.tensors(sample) for sample in islice(self._samples, SAMPLES)]
        seconds = max(_LEAST_S, _RUNS * base.alone_ms / 1000)
        noise = layer_noise(before.model, after.model, feeds, seconds=seconds)
        self.noise = self.noise or noise
        order = ranked(noise, self._saved_time(before.model, base.recipe.runtime))
        return Plan(base.recipe, order, 0, len(order), guess(noise, order, base.quality_drop, self._max_drop))


def base_of(tried: Sequence[Tried], mixed: Collection[str]) -> Tried | None:
    """The int8 recipe to leave layers in float of: of the fastest kind that misses the gate the one with the least
    drop, but none of a kind that is in `mixed`. None where what keeps the gate is about as fast already, such as
    another int8 recipe."""
    missed = [one for one in tried if one.outcome == "missed" and _is_plain_int8(one.recipe)]
    done = {family(one.recipe) for one in missed if one.recipe.name in mixed}
    missed = [one for one in missed if family(one.recipe) not in done]
    if not missed:
        return None
    fastest = min(missed, key=lambda one: one.alone_ms)
    if any(one.outcome == "kept" and one.alone_ms < _WORTH * fastest.alone_ms for one in tried):
        return None
    return min(
        (one for one in missed if family(one.recipe) == family(fastest.recipe)), key=lambda one: one.quality_drop
    )


def enough_before(base: Recipe, tried: Sequence[Tried]) -> tuple[str, ...]:
    """The fewest layers of the same graph that were enough elsewhere; empty where that is not known."""
    found = [
        _kept_float(one.recipe)
        for one in tried
        if one.outcome == "kept" and _kept_float(one.recipe) and _graph_steps(one.recipe) == _graph_steps(base)
    ]
    return min(found, key=len, default=())


def harms(noise: Sequence[LayerNoise]) -> dict[str, float]:
    """Of each layer its noise over the signal, in the model's answers. Where that was not measured, noise is taken to
    fade on its way there as that of the other layers does."""
    fading = [layer.output_sqnr_db - layer.sqnr_db for layer in noise if layer.output_sqnr_db is not None]
    fades_db = fmean(fading) if fading else 0.0
    found = {}
    for layer in noise:
        decibels = layer.sqnr_db + fades_db if layer.output_sqnr_db is None else layer.output_sqnr_db
        found[layer.name] = float(10 ** (-decibels / 10))
    return found


def ranked(noise: Sequence[LayerNoise], saved_ms: Mapping[str, float]) -> tuple[str, ...]:
    """The layers' names by the noise they add to the answers for each millisecond that they save, the worst first.

    A layer whose time was not measured counts as the mean of the others.
    """
    harm = harms(noise)
    known = [saved_ms[name] for name in harm if name in saved_ms]
    mean = max(fmean(known), 0.0) if known else 0.0

    def price(name: str) -> float:
        return harm[name] / max(saved_ms.get(name, mean), _LEAST_SAVING * mean) if mean else harm[name]

    return tuple(sorted(harm, key=price, reverse=True))


def guess(noise: Sequence[LayerNoise], order: Sequence[str], quality_drop: float, max_drop: float) -> int:
    """How many of the first layers to leave in float, were the drop in proportion to the noise that is left."""
    left = harms(noise)
    bearable = _HOPE * sum(left.values()) * max(max_drop, 0.0) / max(quality_drop, 1e-9)
    for count, name in enumerate(order):
        if sum(left.values()) <= bearable:
            return max(count, 1)
        del left[name]
    return max(len(order) - 1, 1)


def next_recipe(plan: Plan, tried: Sequence[Tried], seen: Collection[str]) -> Recipe | None:
    """The recipe to try next: the fewest layers in float that keep the gate, by bisection. None at its end, and where
    a mixed recipe misses the gate though it is slower than one that keeps it: with more in float it only gets slower.
    """
    known = {one.recipe.name: one for one in tried}
    asked = [count for count in range(plan.low + 1, plan.high) if _name(plan, count) in seen]
    missed = [
        count for count in asked if (one := known.get(_name(plan, count))) is not None and one.outcome == "missed"
    ]
    low = max(missed, default=plan.low)
    high = min((count for count in asked if count > low), default=plan.high)
    fastest_ms = min((one.alone_ms for one in tried if one.outcome == "kept"), default=float("inf"))
    is_lost = any(known[_name(plan, count)].alone_ms > _WORTH * fastest_ms for count in missed)
    if is_lost or len(asked) >= MOST_RECIPES or high - low < 2:
        return None
    return recipe_of(plan, (low + high) // 2 if asked else min(max(plan.guess, low + 1), high - 1))


def recipe_of(plan: Plan, count: int) -> Recipe:
    """The base with the first `count` layers of the order in float."""
    place = _quantiser_place(plan.base)
    step = plan.base.steps[place]
    options = {**step.options, "keep_float": ",".join(plan.order[:count])}
    steps = (*plan.base.steps[:place], Step(use=step.use, options=options), *plan.base.steps[place + 1 :])
    return replace(plan.base, name=_name(plan, count), steps=steps)


def _name(plan: Plan, count: int) -> str:
    return f"{plan.base.name}-float{count}"


def _is_plain_int8(recipe: Recipe) -> bool:
    return any(step.use == _QUANTISER for step in recipe.steps) and not _kept_float(recipe)


def _kept_float(recipe: Recipe) -> tuple[str, ...]:
    names = [str(step.options.get("keep_float", "")) for step in recipe.steps if step.use == _QUANTISER]
    return tuple(name for name in ",".join(names).split(",") if name)


def _graph_steps(recipe: Recipe) -> tuple[Step, ...]:
    """What decides which layers there are to quantise, and their names."""
    return tuple(step for step in recipe.steps[: _quantiser_place(recipe)] if step.use != "refit-bias")


def _quantiser_place(recipe: Recipe) -> int:
    """How many steps come before the quantiser; all of them where there is none."""
    return next((place for place, step in enumerate(recipe.steps) if step.use == _QUANTISER), len(recipe.steps))
