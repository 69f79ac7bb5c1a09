"""Mixed precision: where int8 misses the gate, the layers that do most harm for the time they save stay in float.

Rules, but for `plan`, which measures the noise. The search asks for one recipe after the other until there is none:

    plan = mixed.plan(chains, samples, tried, saved_ms)
    while plan is not None and (recipe := mixed.next_recipe(plan, tried)) is not None:
        tried.append(…)          # what became of it
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import onnx
from msgspec.structs import replace

from edgeward.infer import Predictor, Sample, runtimes
from edgeward.optimize.propose import Tried, family
from edgeward.optimize.sensitivity import SAMPLES, LayerNoise, layer_noise
from edgeward.optimize.trials import Chains
from edgeward.records.candidate import Recipe, Step

MOST_RECIPES = 6
_QUANTISER = "quantize-static"
_WORTH = 1.1
"""Mixed precision lies between int8 and float: int8 must be so many times as fast as what keeps the gate."""
_HOPE = 0.5
"""Of the noise that the gate would bear, were the drop in proportion to it: the first guess stays below."""
_LEAST_SAVING = 0.1
"""Of the mean saving of a layer: what leaving one in float costs at least, since values are converted around it."""


class Plan(NamedTuple):
    """The int8 recipe that misses the gate, its layers with those to leave in float first, and the noise of each as
    a share of that of its answers. `guess` layers in float may be enough."""

    base: Recipe
    noise: tuple[LayerNoise, ...]
    order: tuple[str, ...]
    guess: int


SavedTime = Callable[[onnx.ModelProto], Mapping[str, float]]
"""Of the layers of a float graph, by name, the milliseconds that int8 saves; without those that were not measured."""


def plan(
    chains: Chains, samples: Sequence[Sample], tried: Sequence[Tried], max_drop: float, saved_time: SavedTime
) -> Plan | None:
    """How to go on where int8 is fast and misses the gate; None where there is nothing to gain by it.

    Raises Unsupported where the layers of that recipe cannot be compared with their float ones.
    """
    base = base_of(tried)
    if base is None:
        return None
    place = _quantiser_place(base.recipe)
    before = chains.passed(base.recipe.steps[:place])
    after = chains.passed(base.recipe.steps[: place + 1])
    session = runtimes.load("onnxruntime").load(before.model.SerializeToString(), threads=1)
    predictor = Predictor(session, preprocess=before.preprocess)
    noise = layer_noise(before.model, after.model, [predictor.tensors(sample) for sample in samples[:SAMPLES]])
    order = ranked(noise, saved_time(before.model))
    return Plan(base.recipe, noise, order, guess(noise, order, base.quality_drop, max_drop))


def base_of(tried: Sequence[Tried]) -> Tried | None:
    """The int8 recipe to leave layers in float of: of the fastest kind that misses the gate the one with the least
    drop. None where a recipe that keeps the gate is about as fast, such as another int8 one."""
    missed = [one for one in tried if one.outcome == "missed" and _is_plain_int8(one.recipe)]
    if not missed:
        return None
    fastest_ms = min(one.alone_ms for one in missed)
    if any(one.outcome == "kept" and one.alone_ms < _WORTH * fastest_ms for one in tried):
        return None
    kind = family(min(missed, key=lambda one: one.alone_ms).recipe)
    return min((one for one in missed if family(one.recipe) == kind), key=lambda one: one.quality_drop)


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


def next_recipe(plan: Plan, tried: Sequence[Tried]) -> Recipe | None:
    """The recipe to try next: the fewest layers in float that keep the gate are sought by bisection. None at its end,
    and where a mixed recipe misses the gate and yet is slower than one that keeps it."""
    known = {one.recipe.name: one for one in tried}
    mixed = {count: known[name] for count in range(1, len(plan.order)) if (name := _name(plan, count)) in known}
    if len(mixed) >= MOST_RECIPES or _is_lost(list(mixed.values()), tried):
        return None
    low = max((count for count, one in mixed.items() if one.outcome == "missed"), default=0)
    high = min((count for count, one in mixed.items() if one.outcome != "missed" and count > low), default=None)
    if high is None:
        high = len(plan.order)
    if high - low < 2:
        return None
    count = min(max(plan.guess, low + 1), high - 1) if not mixed else (low + high) // 2
    return recipe_of(plan, count)


def recipe_of(plan: Plan, count: int) -> Recipe:
    """The base with the first `count` layers of the order in float."""
    place = _quantiser_place(plan.base)
    step = plan.base.steps[place]
    options = {**step.options, "keep_float": ",".join(plan.order[:count])}
    steps = (*plan.base.steps[:place], Step(use=step.use, options=options), *plan.base.steps[place + 1 :])
    return replace(plan.base, name=_name(plan, count), steps=steps)


def _name(plan: Plan, count: int) -> str:
    return f"{plan.base.name}-float{count}"


def _is_lost(mixed: Sequence[Tried], tried: Sequence[Tried]) -> bool:
    kept_ms = min((one.alone_ms for one in tried if one.outcome == "kept"), default=None)
    return kept_ms is not None and any(one.outcome == "missed" and one.alone_ms > _WORTH * kept_ms for one in mixed)


def _is_plain_int8(recipe: Recipe) -> bool:
    return any(step.use == _QUANTISER and not step.options.get("keep_float") for step in recipe.steps)


def _quantiser_place(recipe: Recipe) -> int:
    return next(place for place, step in enumerate(recipe.steps) if step.use == _QUANTISER)


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
